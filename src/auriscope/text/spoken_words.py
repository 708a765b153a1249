"""The words of :mod:`auriscope.text.spoken`: abbreviations, units, currencies, months, names of letters."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
    *("November", "December"),
)
SHORT_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

LETTER_NAMES = {
    **{"a": "ay", "b": "bee", "c": "see", "d": "dee", "e": "ee", "f": "eff", "g": "jee", "h": "aitch", "i": "eye"},
    **{"j": "jay", "k": "kay", "l": "ell", "m": "em", "n": "en", "o": "oh", "p": "pee", "q": "cue", "r": "ar"},
    **{"s": "ess", "t": "tee", "u": "you", "v": "vee", "w": "double you", "x": "ex", "y": "why", "z": "zee"},
}
"""How a letter is called."""

TITLES = {
    **{"mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "prof": "professor", "rev": "reverend"},
    **{"hon": "honorable", "capt": "captain", "col": "colonel", "gen": "general", "lt": "lieutenant"},
    **{"maj": "major", "sgt": "sergeant", "gov": "governor", "pres": "president", "sen": "senator"},
    **{"no": "number", "nos": "numbers", "messrs": "messieurs"},
}
"""Abbreviations that always stand before something, so that no sentence ends with them."""

ABBREVIATIONS = {
    **TITLES,
    **{"jr": "junior", "sr": "senior", "esq": "esquire", "co": "company", "ltd": "limited", "inc": "incorporated"},
    **{"corp": "corporation", "etc": "et cetera", "vs": "versus", "approx": "approximately", "dept": "department"},
    **{"ave": "avenue", "blvd": "boulevard", "rd": "road", "mt": "mount", "vol": "volume", "et al": "and others"},
    **{"e.g": "for example", "i.e": "that is", "viz": "namely", "cf": "compare"},
}
"""What stands for an abbreviation that is written with a point, in lower case without its last point."""

BEGINNINGS = _words(
    "A An And As At But By For From He Her His How I If In It Its My No Nobody Not Now On One Or Our She So Some That "
    "The Their Then There These They This Those To Today Was We What When Where Which While Who Why With Yes Yet You "
    "Your"
)
"""Words with a capital that show that a sentence begins with them, and not a name."""

SHORT_WORDS = _words(
    "A I AH AM AN AND ANY ARE AS ASK AT BAD BE BIG BUT BUY BY CAN DAY DID DO DON END EH FAR FEW FOR GET GO GOD GOT HA "
    "HAD HAS HE HER HEY HI HIM HIS HOT HOW IF IN IS IT ITS LET LOT MAN MAY ME MEN MY NEW NO NOT NOW OF OFF OH OLD "
    "ON ONE OR OUR OUT OWN PUT RED RUN SAD SAW SAY SEE SET SHE SO STOP TEN THE TO TOO TOP TRY TWO UP US USE WAS WAY "
    "WE WHO WHY YES YET YOU"
)
"""Words of up to three letters that are words in capitals too."""

NUMBERED = _words(
    "act article book case chapter class figure grade level line note page part phase question rule scene section "
    "series stage step table type verse volume war world"
)
"""Words before a Roman number that counts, and does not tell one king from another."""

CURRENCIES = {
    "$": ("dollar", "dollars"),
    "£": ("pound", "pounds"),
    "€": ("euro", "euros"),
    "¥": ("yen", "yen"),
    "₹": ("rupee", "rupees"),
    "₩": ("won", "won"),
}

LARGE = {"k": "thousand", "K": "thousand", "m": "million", "M": "million", "bn": "billion", "B": "billion"} | {
    name: name for name in ("thousand", "million", "billion", "trillion")
}
"""Scales of an amount of money."""

UNITS = {
    **{"km/h": ("kilometer per hour", "kilometers per hour"), "m/s": ("meter per second", "meters per second")},
    **{"mph": ("mile per hour", "miles per hour"), "km²": ("square kilometer", "square kilometers")},
    **{"m²": ("square meter", "square meters"), "m³": ("cubic meter", "cubic meters")},
    **{"km": ("kilometer", "kilometers"), "cm": ("centimeter", "centimeters"), "mm": ("millimeter", "millimeters")},
    **{"m": ("meter", "meters"), "ft": ("foot", "feet"), "yd": ("yard", "yards"), "mi": ("mile", "miles")},
    **{"kg": ("kilogram", "kilograms"), "g": ("gram", "grams"), "mg": ("milligram", "milligrams")},
    **{"lb": ("pound", "pounds"), "lbs": ("pound", "pounds"), "oz": ("ounce", "ounces"), "l": ("liter", "liters")},
    **{"L": ("liter", "liters"), "ml": ("milliliter", "milliliters"), "h": ("hour", "hours"), "hr": ("hour", "hours")},
    **{"hrs": ("hour", "hours"), "min": ("minute", "minutes"), "mins": ("minute", "minutes")},
    **{"sec": ("second", "seconds"), "s": ("second", "seconds"), "ms": ("millisecond", "milliseconds")},
    **{"Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz")},
    **{"GHz": ("gigahertz", "gigahertz"), "dB": ("decibel", "decibels"), "W": ("watt", "watts")},
    **{"kW": ("kilowatt", "kilowatts"), "MW": ("megawatt", "megawatts"), "V": ("volt", "volts")},
    **{"kB": ("kilobyte", "kilobytes"), "KB": ("kilobyte", "kilobytes"), "MB": ("megabyte", "megabytes")},
    **{"GB": ("gigabyte", "gigabytes"), "TB": ("terabyte", "terabytes"), "°C": ("degree Celsius", "degrees Celsius")},
    **{"°F": ("degree Fahrenheit", "degrees Fahrenheit"), "°": ("degree", "degrees")},
}
"""Behind a number, the name of one and of several."""

SYMBOLS = {
    **{"&": "and", "+": "plus", "=": "equals", "±": "plus or minus", "×": "times", "÷": "divided by", "@": "at"},
    **{"§": "section", "©": "copyright", "®": "registered", "™": "trademark", "°": "degrees", "≈": "about"},
    **{"≤": "at most", "≥": "at least", "√": "the square root of", "π": "pi", "µ": "micro", "²": "squared"},
    **{"³": "cubed"},
}
"""Signs that are words wherever they stand."""

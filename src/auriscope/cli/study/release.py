"""``auriscope study release``: a corpus to publish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from auriscope.cli.console import complain, emit, one_line_for, printable, say, to_json
from auriscope.cli.options import Json
from auriscope.cli.study.options import opened
from auriscope.errors import AuriscopeError

if TYPE_CHECKING:
    from auriscope.study.release import Released


def release(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="FOLDER", help="Where the folder NAME-VERSION goes.", show_default=False),
    ],
    version: Annotated[
        str, typer.Option("--version", metavar="X.Y.Z", help="The version of the corpus.", show_default=False)
    ],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[FOLDER]", help="The study's folder, which holds campaign.yaml.", show_default=False),
    ] = None,
    from_realm: Annotated[
        Path | None,
        typer.Option(
            "--from-realm",
            metavar="FOLDER",
            help="Instead of a study: REAL-M as it was unpacked (REAL-M-v0.1.0).",
            show_default=False,
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--licence", metavar="NAME", help="Licence of the corpus, such as CC-BY-4.0.", show_default="none chosen"
        ),
    ] = None,
    licence_file: Annotated[
        Path | None,
        typer.Option("--licence-file", metavar="FILE", help="The text that becomes LICENSE.", show_default=False),
    ] = None,
    audio: Annotated[
        Literal["flac", "wav"],
        typer.Option("--audio", metavar="flac|wav", help="The form of the audio; both keep every bit of the samples."),
    ] = "flac",
    valid: Annotated[
        int, typer.Option("--valid", metavar="PERCENT", min=0, max=99, help="Share of contributors for validation.")
    ] = 10,
    test: Annotated[
        int, typer.Option("--test", metavar="PERCENT", min=0, max=99, help="Share of contributors for testing.")
    ] = 10,
    json: Json = False,
) -> None:
    """Release the recordings that reviewers included, under pseudonyms, as a versioned corpus to publish.

    The same data give the same bytes. A version that was released with other contents, or lies there, is refused.
    """
    if (folder is None) is (from_realm is None):
        raise typer.BadParameter("give a study's folder, or --from-realm", param_hint="'FOLDER'")
    with one_line_for([folder or from_realm], json=json):
        options: dict[str, Any] = {
            "licence": licence,
            "licence_text": _read(licence_file),
            "audio": audio,
            "valid_percent": valid,
            "test_percent": test,
        }
        if folder is not None:
            with opened(folder) as study:
                from auriscope.study.release import release as run

                made = run(study, version, out, **options)
        else:
            assert from_realm is not None
            made = _realm(from_realm, version, out, options)
    if json:
        emit({"input": folder or from_realm, **to_json(made)})
        return
    say(printable(made.path))
    say(f"{made.num_recordings} recordings of {made.num_sessions} sessions, {made.hours:.2f} h")
    for split, number in made.splits.items():
        say(f"  {split:<6}{number:>7} recordings")


def _realm(root: Path, version: str, out: Path, options: dict[str, Any]) -> Released:
    try:
        from auriscope.study.realm import NUM_SESSIONS, release_realm
    except ModuleNotFoundError as error:
        raise AuriscopeError(f"releases need the package {error.name}: pip install 'auriscope[study]'") from None
    made, found = release_realm(root, version, out, **options)
    if found.num_sessions != NUM_SESSIONS:
        complain(f"{printable(root)}: has {found.num_sessions} sessions; the whole of REAL-M has {NUM_SESSIONS}")
    if found.missing:
        complain(f"{len(found.missing)} transcriptions have no recording, the first {printable(found.missing[0])}")
    if found.unlisted:
        complain(f"{len(found.unlisted)} recordings have no transcription, the first {printable(found.unlisted[0])}")
    return made


def _read(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AuriscopeError(f"{printable(path)}: cannot be read as a licence ({error})") from None

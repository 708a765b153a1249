// After withdrawal nothing stays in the browser either.

import { forgetEverything } from "/static/collect-outbox.js";

forgetEverything();

// A recording as a file that Perfetto (ui.perfetto.dev) and chrome://tracing open: the Trace Event Format's
// JSON object, compressed when the path ends in ".gz".
#pragma once

#include <string>

#include "base/status.h"
#include "base/trace.h"

namespace bifocal::trace {

// Written beside `path` and renamed over it once complete; memory does not grow with the recording.
// invalid_argument when it can't be written there.
//
// Spans are complete events ("X"); requests are pairs of async events ("b", "e"): where a recording has one
// end alone, its own start or end stands in. otherData says how much was dropped, by thread.
Status write_file(const Recording& recording, const std::string& path);

}  // namespace bifocal::trace

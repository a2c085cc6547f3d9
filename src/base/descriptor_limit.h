// How many files and connections this process may have open.
#pragma once

namespace bifocal {

// Raises the soft limit (usually 1024) so that `connections` fit beside the rest, as far as the hard limit
// goes; warns where it doesn't suffice.
void raise_descriptor_limit(int connections);

}  // namespace bifocal

// Requests whose end two implementations may see at different bytes, and what must become of each.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bifocal::server::http {

struct FramingCase {
  std::string name;
  std::string bytes;
  int status;  // of the refusal, after which the connection is closed; 0: one request, accepted
};

std::vector<FramingCase> framing_corpus();

// GET / with further header lines ("X: y\r\n").
std::string get_request(std::string_view header_lines);
// POST / whose chunked body, chunk lines and all, is `chunks`.
std::string chunked_request(std::string_view chunks);

}  // namespace bifocal::server::http

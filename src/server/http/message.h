// HTTP messages as the handlers see them. No transport here: Boost stays in http/*.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bifocal::server::http {

struct Header {
  std::string name;  // lower case in requests, as written in responses
  std::string value;
};

struct Request {
  std::string method;  // "GET"
  std::string path;    // the target up to "?", not decoded: only exact spellings match a route
  std::string query;   // after "?", not decoded
  int version = 11;    // 10 or 11
  bool keep_alive = true;
  std::vector<Header> headers;
  std::string body;

  // Filled in by Application::screen.
  int route = -1;                      // index in the route table
  std::string path_tail;               // what a prefix route left over
  int client = -1;                     // index of the API key; -1: none needed or none given
  std::vector<Header> answer_headers;  // to be sent with whatever the answer is

  // The first header of that name (given in lower case); "" when absent.
  std::string_view header(std::string_view lower_case_name) const;
  bool has_header(std::string_view lower_case_name) const;
};

struct Response {
  int status = 200;
  std::string body;
  std::string_view content_type = "application/json";  // a literal
  std::vector<Header> headers;
  bool close = false;  // end the connection afterwards
};

std::string_view reason_phrase(int status);
bool equals_ignoring_case(std::string_view a, std::string_view b);
// Without spaces and tabs at either end.
std::string_view trim(std::string_view text);
// "%2F" to "/"; false when an escape is malformed or yields a control character.
bool percent_decode(std::string_view text, std::string& out);

}  // namespace bifocal::server::http

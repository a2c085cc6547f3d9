#include "server/framing_corpus.h"

namespace bifocal::server::http {

std::string get_request(std::string_view header_lines) {
  return "GET / HTTP/1.1\r\nHost: a\r\n" + std::string(header_lines) + "\r\n";
}

std::string chunked_request(std::string_view chunks) {
  return "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + std::string(chunks);
}

std::vector<FramingCase> framing_corpus() {
  const std::string post = "POST / HTTP/1.1\r\nHost: a\r\n";
  std::vector<FramingCase> cases = {
      {"plain", get_request(""), 0},
      {"length and chunked", post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"chunked and length", post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
      {"two different lengths", post + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400},
      {"two equal lengths", post + "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400},
      {"list of lengths", post + "Content-Length: 1, 1\r\n\r\na", 400},
      {"length +1", post + "Content-Length: +1\r\n\r\na", 400},
      {"length -1", post + "Content-Length: -1\r\n\r\na", 400},
      {"length 0x1", post + "Content-Length: 0x1\r\n\r\na", 400},
      {"length 1 1", post + "Content-Length: 1 1\r\n\r\na", 400},
      {"length empty", post + "Content-Length:\r\n\r\na", 400},
      {"length 2^64", post + "Content-Length: 18446744073709551616\r\n\r\na", 400},
      {"length 10^18", post + "Content-Length: 1000000000000000000\r\n\r\na", 413},
      {"gzip, chunked", post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
      {"chunked, gzip", post + "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400},
      {"identity", post + "Transfer-Encoding: identity\r\n\r\n", 400},
      {"xchunked", post + "Transfer-Encoding: xchunked\r\n\r\n", 400},
      {"chunked twice", post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
       400},
      {"chunked, chunked", post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400},
      {"chunked with vertical tab", post + "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n", 400},
      {"chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"capitals", post + "Transfer-Encoding: ChUnKeD\r\n\r\n0\r\n\r\n", 0},
      {"space before colon", get_request("X : y\r\n"), 400},
      {"tab before colon", get_request("X\t: y\r\n"), 400},
      {"folded line", get_request("X: y\r\n z\r\n"), 400},
      {"folded first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
      {"bare LF", "GET / HTTP/1.1\nHost: a\n\n", 400},
      {"bare LF in the middle", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400},
      {"bare CR in a value", get_request("X: a\rb\r\n"), 400},
      {"CR CR LF", get_request("X: a\r\r\n"), 400},
      {"NUL in a value", get_request(std::string("X: a\0b\r\n", 8)), 400},
      {"NUL in the target", std::string("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 29), 400},
      {"DEL in the target", "GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"high byte in the target", "GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"no name", get_request(": y\r\n"), 400},
      {"no colon", get_request("X y\r\n"), 400},
      {"brackets in a name", get_request("X[y]: z\r\n"), 400},
      {"no Host", "GET / HTTP/1.1\r\n\r\n", 400},
      {"two Hosts", get_request("Host: b\r\n"), 400},
      {"HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 0},
      {"absolute target", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"CONNECT target", "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
      {"HTTP/0.9", "GET /\r\n\r\n", 400},
      {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 400},
      {"lower case version", "GET / http/1.1\r\nHost: a\r\n\r\n", 400},
      {"two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"leading space", " GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"one empty line first", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 0},
      {"TLS hello", std::string("\x16\x03\x01\x02\x00\x01\x00", 7), 400},
      {"unknown expectation", get_request("Expect: 200-ok\r\n"), 417},
      {"chunk size -2", chunked_request("-2\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size 0x2", chunked_request("0x2\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size +2", chunked_request("+2\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size empty", chunked_request("\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size 17 digits", chunked_request("10000000000000000\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size 0_2", chunked_request("0_2\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size with space", chunked_request(" 2\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk size too large", chunked_request("fffffffffffffff\r\nab\r\n0\r\n\r\n"), 413},
      {"chunk not ended", chunked_request("2\r\nabXX0\r\n\r\n"), 400},
      {"chunk ended by LF", chunked_request("2\r\nab\n0\r\n\r\n"), 400},
      {"chunk line ended by LF", chunked_request("2\nab\r\n0\r\n\r\n"), 400},
      {"chunk extension", chunked_request("2;a=b\r\nab\r\n0\r\n\r\n"), 0},
      {"chunk extension with control", chunked_request("2;a=\"\x01\"\r\nab\r\n0\r\n\r\n"), 400},
      {"chunk extension malformed", chunked_request("2;=\r\nab\r\n0\r\n\r\n"), 400},
      {"trailer", chunked_request("2\r\nab\r\n0\r\nX: y\r\n\r\n"), 0},
      {"length in a trailer", chunked_request("2\r\nab\r\n0\r\nContent-Length: 5\r\n\r\n"), 400},
  };
  return cases;
}

}  // namespace bifocal::server::http

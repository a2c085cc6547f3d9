#include "server/web/page.h"

#include <fmt/format.h>

#include "base/check.h"
#include "server/sha256.h"
#include "server/web/assets.h"

namespace bifocal::server::web {
namespace {

std::string joined(std::span<const std::string_view> files) {
  std::string out;
  for (const std::string_view file : files) out += file;
  return out;
}

// Base64 (RFC 4648) of a digest.
std::string base64(const Sha256& digest) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < digest.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j) bits = bits << 8 | (i + j < digest.size() ? digest[i + j] : 0U);
    for (size_t j = 0; j < 4; ++j) {
      out += i + j > digest.size() ? '=' : kDigits[bits >> (18 - 6 * j) & 63U];
    }
  }
  return out;
}

void put(std::string& page, std::string_view placeholder, const std::string& text) {
  const size_t at = page.find(placeholder);
  BIFOCAL_CHECK(at != std::string::npos);
  page.replace(at, placeholder.size(), text);
}

// Only this script and this style run, and only this server is asked.
http::Response make_page() {
  const std::string style = joined(style_files());
  const std::string script = "\"use strict\";\n" + joined(script_files());
  http::Response response;
  response.content_type = "text/html; charset=utf-8";
  response.body = joined(page_files());
  put(response.body, "/*style*/", style);
  put(response.body, "/*script*/", script);
  response.headers = {
      {"Content-Security-Policy",
       fmt::format("default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; "
                   "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                   base64(sha256(script)), base64(sha256(style)))},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"},
      {"Cache-Control", "no-cache"},
  };
  return response;
}

}  // namespace

void handle_page(const Call& call) {
  static const http::Response page = make_page();
  call.exchange->respond(page);
}

}  // namespace bifocal::server::web

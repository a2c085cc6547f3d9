// The files of the page, embedded by the build. Each list is to be put together in order.
#pragma once

#include <span>
#include <string_view>

namespace bifocal::server::web {

std::span<const std::string_view> page_files();
std::span<const std::string_view> style_files();
std::span<const std::string_view> script_files();

}  // namespace bifocal::server::web

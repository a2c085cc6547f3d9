#include "eval/csv.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"

namespace bifocal::eval {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  Expected<std::vector<std::vector<std::string>>> rows() {
    std::vector<std::vector<std::string>> rows;
    while (at_ < text_.size()) {
      if (skip_line_end()) continue;
      auto& row = rows.emplace_back();
      for (bool more = true; more;) {
        BIFOCAL_ASSIGN_OR_RETURN(std::string value, field(rows.size()));
        row.push_back(std::move(value));
        more = at_ < text_.size() && text_[at_] == ',';
        if (more) ++at_;
      }
      if (at_ < text_.size() && !skip_line_end()) {
        return invalid_argument(fmt::format("row {}: text behind a closing quote", rows.size()));
      }
    }
    return rows;
  }

 private:
  bool skip_line_end() {
    const size_t from = at_;
    if (at_ < text_.size() && text_[at_] == '\r') ++at_;
    if (at_ < text_.size() && text_[at_] == '\n') ++at_;
    return at_ > from;
  }

  Expected<std::string> field(size_t row) {
    if (at_ < text_.size() && text_[at_] == '"') return quoted(row);
    const size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
    std::string value(text_.substr(at_, end - at_));
    at_ = end;
    return value;
  }

  Expected<std::string> quoted(size_t row) {
    std::string value;
    for (++at_; at_ < text_.size(); ++at_) {
      if (text_[at_] != '"') {
        value += text_[at_];
      } else if (at_ + 1 < text_.size() && text_[at_ + 1] == '"') {
        value += text_[++at_];
      } else {
        ++at_;
        return value;
      }
    }
    return invalid_argument(fmt::format("row {}: a quote is not closed", row));
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

Expected<std::vector<std::vector<std::string>>> parse_csv(std::string_view text) {
  return Reader(text).rows();
}

Expected<std::vector<std::vector<std::string>>> read_csv(const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, read_file(path, kMaxFileBytes));
  auto rows = parse_csv(text);
  if (!rows.ok()) return rows.status().with_context(path);
  return rows;
}

}  // namespace bifocal::eval

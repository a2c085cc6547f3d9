#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <array>

#include "base/check.h"
#include "base/utf8.h"
#include "text/regex_syntax.h"

namespace bifocal::text {
namespace {

template <class T, void (*Free)(T*)>
struct Deleter {
  void operator()(T* p) const { Free(p); }
};
using CodePtr = std::unique_ptr<pcre2_code, Deleter<pcre2_code, pcre2_code_free>>;
using CompileContextPtr =
    std::unique_ptr<pcre2_compile_context, Deleter<pcre2_compile_context, pcre2_compile_context_free>>;
using MatchContextPtr =
    std::unique_ptr<pcre2_match_context, Deleter<pcre2_match_context, pcre2_match_context_free>>;
using MatchDataPtr = std::unique_ptr<pcre2_match_data, Deleter<pcre2_match_data, pcre2_match_data_free>>;

constexpr size_t kMaxPatternBytes = size_t{64} << 10;
constexpr uint32_t kMaxGroupNesting = 100;
constexpr uint32_t kMatchMemoryKib = 256 << 10;

// PCRE2 counts the steps of one attempt and gives up at a limit, but does not tell the count. An attempt
// therefore starts with a small limit and is repeated with a larger one; what each limit allowed is charged
// to a budget that grows with the text. An attempt that walks along the text once costs a few steps per
// character, one that backtracks over it at every position runs out.
constexpr uint32_t kFirstLimit = 200;
constexpr uint32_t kLimitGrowth = 8;
constexpr uint64_t kBaseBudget = 1'000'000;
constexpr uint64_t kBudgetPerByte = 64;

class Search {
 public:
  Search(const pcre2_code* code, std::string_view text)
      : code_(code),
        text_(text),
        data_(pcre2_match_data_create_from_pattern(code, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        budget_(kBaseBudget + kBudgetPerByte * text.size()) {
    BIFOCAL_CHECK(data_ != nullptr && context_ != nullptr);
    pcre2_set_heap_limit(context_.get(), kMatchMemoryKib);
    pcre2_set_match_limit(context_.get(), kFirstLimit);
  }

  // The length of the match that begins at `start`, -1 when there is none.
  Expected<int64_t> match_at(size_t start) {
    int rc = attempt(start);
    for (uint32_t limit = kFirstLimit; rc == PCRE2_ERROR_MATCHLIMIT;) {
      if (limit > budget_) break;
      budget_ -= limit;
      limit = limit > UINT32_MAX / kLimitGrowth ? UINT32_MAX : limit * kLimitGrowth;
      pcre2_set_match_limit(context_.get(), limit);
      rc = attempt(start);
      pcre2_set_match_limit(context_.get(), kFirstLimit);
      if (limit == UINT32_MAX) break;
    }
    if (rc == PCRE2_ERROR_NOMATCH) return int64_t{-1};
    if (rc < 0)
      return resource_exhausted(fmt::format("the pattern backtracks too much at byte {} of the text", start));
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data_.get());
    return offsets[1] > start ? static_cast<int64_t>(offsets[1] - start) : int64_t{0};
  }

 private:
  int attempt(size_t start) {
    return pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text_.data()), text_.size(), start,
                       PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, data_.get(), context_.get());
  }

  const pcre2_code* code_;
  std::string_view text_;
  MatchDataPtr data_;
  MatchContextPtr context_;
  uint64_t budget_;
};

Status find_literal(std::string_view needle, std::string_view text, std::vector<ByteRange>& matches) {
  for (size_t at = text.find(needle); at != std::string_view::npos;
       at = text.find(needle, at + needle.size())) {
    matches.push_back({at, at + needle.size()});
  }
  return {};
}

}  // namespace

struct Regex::Code {
  CodePtr regex;                         // null for a literal
  std::string literal;                   // not empty for a literal
  std::array<bool, 128> may_start = {};  // ASCII characters that a match can begin with
};

namespace {

// A one-character subject is refused outright only if no continuation could match (PCRE2_PARTIAL_HARD reports
// the others). Skipping such characters saves an attempt at each of them.
std::array<bool, 128> find_starts(const pcre2_code* code, std::string_view pattern) {
  std::array<bool, 128> may_start;
  may_start.fill(true);
  uint32_t lookbehind = 0;
  pcre2_pattern_info(code, PCRE2_INFO_MAXLOOKBEHIND, &lookbehind);
  const bool looks_back =
      lookbehind > 0 || pattern.starts_with('^') || pattern.find("(^") != std::string_view::npos ||
      pattern.find("|^") != std::string_view::npos || pattern.find(":^") != std::string_view::npos;
  if (looks_back) return may_start;
  const MatchDataPtr data(pcre2_match_data_create_from_pattern(code, nullptr));
  BIFOCAL_CHECK(data != nullptr);
  for (size_t c = 0; c < may_start.size(); ++c) {
    const auto subject = static_cast<PCRE2_UCHAR>(c);
    may_start[c] = pcre2_match(code, &subject, 1, 0, PCRE2_ANCHORED | PCRE2_PARTIAL_HARD, data.get(),
                               nullptr) != PCRE2_ERROR_NOMATCH;
  }
  return may_start;
}

}  // namespace

Regex::Regex(std::unique_ptr<Code> code) : code_(std::move(code)) {}
Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Expected<Regex> Regex::compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return invalid_argument(
        fmt::format("the pattern has {} bytes, expected at most {}", pattern.size(), kMaxPatternBytes));
  }
  BIFOCAL_ASSIGN_OR_RETURN(const std::string translated, oniguruma_to_pcre2(pattern));
  const CompileContextPtr context(pcre2_compile_context_create(nullptr));
  BIFOCAL_CHECK(context != nullptr);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), kMaxGroupNesting);
  int error = 0;
  PCRE2_SIZE offset = 0;
  CodePtr regex(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                              &offset, context.get()));
  if (regex == nullptr) {
    std::array<PCRE2_UCHAR, 128> message{};
    pcre2_get_error_message(error, message.data(), message.size());
    return invalid_argument(fmt::format("the pattern cannot be compiled: {} (byte {} after translation)",
                                        reinterpret_cast<const char*>(message.data()), offset));
  }
  const std::array<bool, 128> may_start = find_starts(regex.get(), translated);
  return Regex(std::make_unique<Code>(Code{std::move(regex), "", may_start}));
}

Expected<Regex> Regex::literal(std::string_view text) {
  if (text.empty()) return invalid_argument("the pattern is empty");
  return Regex(std::make_unique<Code>(Code{nullptr, std::string(text), {}}));
}

Status Regex::find_all(std::string_view text, std::vector<ByteRange>& matches) const {
  matches.clear();
  if (code_->regex == nullptr) return find_literal(code_->literal, text, matches);
  Search search(code_->regex.get(), text);
  for (size_t at = 0; at < text.size();) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < code_->may_start.size() && !code_->may_start[byte]) {
      ++at;
      continue;
    }
    BIFOCAL_ASSIGN_OR_RETURN(const int64_t length, search.match_at(at));
    if (length >= 0) matches.push_back({at, at + static_cast<size_t>(length)});
    // Past the match, or past one character where there is none or an empty one.
    at += length > 0 ? static_cast<size_t>(length) : static_cast<size_t>(decode_utf8(text.substr(at)).length);
  }
  return {};
}

}  // namespace bifocal::text

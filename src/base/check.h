// Checks for our own bugs: they print both values and end the process. User input must never reach one.
#pragma once

#include <sstream>
#include <string>

namespace bifocal {

[[noreturn]] void check_failed(const char* file, int line, const char* expression, const std::string& detail);

template <class A, class B>
std::string describe_operands(const A& a, const B& b) {
  std::ostringstream out;
  out << "(" << a << " vs " << b << ")";
  return out.str();
}

}  // namespace bifocal

#define BIFOCAL_CHECK(cond) \
  (static_cast<bool>(cond) ? void(0) : ::bifocal::check_failed(__FILE__, __LINE__, #cond, ""))

#define BIFOCAL_CHECK_OP(a, op, b)                                               \
  do {                                                                           \
    const auto& check_a_ = (a);                                                  \
    const auto& check_b_ = (b);                                                  \
    if (!(check_a_ op check_b_)) {                                               \
      ::bifocal::check_failed(__FILE__, __LINE__, #a " " #op " " #b,             \
                              ::bifocal::describe_operands(check_a_, check_b_)); \
    }                                                                            \
  } while (false)
#define BIFOCAL_CHECK_EQ(a, b) BIFOCAL_CHECK_OP(a, ==, b)
#define BIFOCAL_CHECK_NE(a, b) BIFOCAL_CHECK_OP(a, !=, b)
#define BIFOCAL_CHECK_LE(a, b) BIFOCAL_CHECK_OP(a, <=, b)
#define BIFOCAL_CHECK_LT(a, b) BIFOCAL_CHECK_OP(a, <, b)
#define BIFOCAL_CHECK_GE(a, b) BIFOCAL_CHECK_OP(a, >=, b)
#define BIFOCAL_CHECK_GT(a, b) BIFOCAL_CHECK_OP(a, >, b)

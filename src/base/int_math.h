#pragma once

#include <concepts>
#include <type_traits>

namespace bifocal {

// a / b, rounded up; a not negative, b positive.
template <std::integral A, std::integral B>
constexpr std::common_type_t<A, B> ceil_div(A a, B b) {
  return (a + b - 1) / b;
}

}  // namespace bifocal

// How a row of a step names a token that the step before has chosen and no host has read yet.
#pragma once

#include <cstdint>

namespace bifocal::kernels {

// Ids from here on down stand for the token of logit row kFirstChosen - id of the step before; -1 is padding.
constexpr int32_t kFirstChosen = -2;

constexpr int32_t chosen_at(int32_t logit_row) {
  return kFirstChosen - logit_row;
}

}  // namespace bifocal::kernels

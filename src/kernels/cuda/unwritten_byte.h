// What memory that passes marked words (marked_words.h) is filled with before its first use.
#pragma once

namespace bifocal::kernels::cuda {

constexpr int kUnwrittenByte = 0xFF;

}  // namespace bifocal::kernels::cuda

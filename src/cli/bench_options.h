// The options of the bench commands.
#pragma once

#include <vector>

#include "cli/settings.h"

namespace bifocal::cli {

std::vector<Option> for_bench_machine(Settings& s);  // ceilings, gemm
std::vector<Option> for_bench_attention(Settings& s);
std::vector<Option> for_bench_one_batch(Settings& s);
std::vector<Option> for_bench_conversations(Settings& s);
std::vector<Option> for_bench_mixed(Settings& s);
std::vector<Option> for_bench_serving(Settings& s);
std::vector<Option> for_bench_offline(Settings& s);
std::vector<Option> for_bench_compare(Settings& s);

}  // namespace bifocal::cli

#include "eval/question_batches.h"

#include <algorithm>
#include <iterator>

namespace bifocal::eval {

Expected<std::vector<Answer>> ask(Generator& generator, const std::vector<Query>& queries,
                                  const AccuracyOptions& options) {
  std::vector<Answer> answers;
  const auto parallel = static_cast<size_t>(std::max(1, options.parallel));
  for (size_t begin = 0; begin < queries.size(); begin += parallel) {
    const size_t count = std::min(parallel, queries.size() - begin);
    BIFOCAL_ASSIGN_OR_RETURN(auto batch, generator.generate(std::span(queries).subspan(begin, count)));
    std::move(batch.begin(), batch.end(), std::back_inserter(answers));
    if (options.on_batch) options.on_batch(answers.size());
  }
  return answers;
}

}  // namespace bifocal::eval

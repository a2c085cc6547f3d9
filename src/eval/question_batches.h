// What the accuracy tests have in common: questions asked some at a time.
#pragma once

#include "eval/accuracy.h"

namespace bifocal::eval {

// All queries, options.parallel at a time; answers[i] is of queries[i].
Expected<std::vector<Answer>> ask(Generator& generator, const std::vector<Query>& queries,
                                  const AccuracyOptions& options);

}  // namespace bifocal::eval

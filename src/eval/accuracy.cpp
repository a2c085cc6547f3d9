#include "eval/accuracy.h"

namespace bifocal::eval {

double SubjectScore::accuracy() const {
  return total == 0 ? 0.0 : static_cast<double>(correct) / static_cast<double>(total);
}

SubjectScore AccuracyReport::total() const {
  SubjectScore sum;
  for (const SubjectScore& subject : subjects) {
    sum.total += subject.total;
    sum.correct += subject.correct;
    sum.invalid += subject.invalid;
  }
  return sum;
}

}  // namespace bifocal::eval

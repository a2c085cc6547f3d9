#include "model/checkpoint_maker.h"

#include <gtest/gtest.h>

#include "model/expected_weights.h"
#include "model/families.h"
#include "weights/dummy.h"

namespace bifocal::model {

std::vector<weights::FileTensor> small_tensors(std::string_view config) {
  std::vector<weights::FileTensor> out;
  const auto parsed = weights::parse_model_config(config, "config.json", {});
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  const auto spec = make_spec(*parsed);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  ThreadPool pool(1);
  weights::DummyWeights source(9, DType::f32, pool);
  Tensor staging;
  for (const ExpectedWeight& weight : expected_weights(*spec)) {
    const auto view = source.read(weight.name, weight.shape, staging);
    EXPECT_TRUE(view.ok());
    const float* values = view->as<float>();
    out.push_back(weights::f32_tensor(weight.name, weight.shape, {values, values + view->num_elements()}));
  }
  return out;
}

void write_checkpoint(const weights::TemporaryDirectory& directory, std::string_view config,
                      const std::vector<weights::FileTensor>& tensors) {
  weights::write_text(directory.file("config.json"), config);
  weights::write_text(directory.file("model.safetensors"), weights::safetensors_bytes(tensors));
}

}  // namespace bifocal::model

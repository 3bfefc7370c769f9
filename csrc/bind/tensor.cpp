#include "bind/tensor.h"

namespace nf {
namespace {

// The stable part of DLPack that is read here (dmlc/dlpack, version 1.x).
struct DLDevice { std::int32_t type, id; };
constexpr std::int32_t kDlCuda = 2;
struct DLDataType { std::uint8_t code, bits; std::uint16_t lanes; };
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};
struct DLVersion { std::uint32_t major, minor; };
struct DLExchangeApi {
  DLVersion version;
  void* previous;
  void* allocate;
  void* managed_from_py;
  void* managed_to_py;
  int (*tensor_from_py)(void* object, DLTensor* out);
  int (*current_stream)(std::int32_t device_type, std::int32_t device_index, void** out);
};

Dtype dtype_from_dlpack(DLDataType type) {
  if (type.lanes != 1) return Dtype::other;
  if (type.code == 2 && type.bits == 32) return Dtype::f32;
  if (type.code == 2 && type.bits == 64) return Dtype::f64;
  if (type.code == 4 && type.bits == 16) return Dtype::bf16;
  if (type.code == 0 && type.bits == 32) return Dtype::i32;
  if (type.code == 0 && type.bits == 64) return Dtype::i64;
  if (type.code == 1 && type.bits == 8) return Dtype::u8;
  if (type.code == 6) return Dtype::boolean;
  return Dtype::other;
}

bool is_contiguous(const std::vector<std::int64_t>& shape, const std::int64_t* strides) {
  if (strides == nullptr) return true;
  std::int64_t expected = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 0) return true;
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

// One lookup per tensor type: the API object lives as long as its type.
const DLExchangeApi* exchange_api(const py::handle& tensor) {
  static PyTypeObject* known_type = nullptr;
  static const DLExchangeApi* known_api = nullptr;
  PyTypeObject* type = Py_TYPE(tensor.ptr());
  if (type == known_type) return known_api;
  const DLExchangeApi* api = nullptr;
  py::handle type_handle(reinterpret_cast<PyObject*>(type));
  if (py::hasattr(type_handle, "__dlpack_c_exchange_api__")) {
    const py::object capsule = type_handle.attr("__dlpack_c_exchange_api__");
    if (PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) {
      api = static_cast<const DLExchangeApi*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
      if (api->version.major != 1 || api->tensor_from_py == nullptr) api = nullptr;
    }
  }
  known_type = type;
  known_api = api;
  return api;
}

TensorView view_by_dlpack(const py::handle& tensor, const DLExchangeApi& api) {
  DLTensor raw{};
  if (api.tensor_from_py(tensor.ptr(), &raw) != 0) throw py::error_already_set();
  TensorView view;
  view.data = static_cast<char*>(raw.data) + raw.byte_offset;
  view.shape.assign(raw.shape, raw.shape + raw.ndim);
  view.contiguous = is_contiguous(view.shape, raw.strides);
  view.on_cuda = raw.device.type == kDlCuda;
  view.device_index = raw.device.id;
  view.dtype = dtype_from_dlpack(raw.dtype);
  return view;
}

Dtype dtype_from_name(const std::string& name) {
  if (name == "torch.float32") return Dtype::f32;
  if (name == "torch.float64") return Dtype::f64;
  if (name == "torch.bfloat16") return Dtype::bf16;
  if (name == "torch.int32") return Dtype::i32;
  if (name == "torch.int64") return Dtype::i64;
  if (name == "torch.uint8") return Dtype::u8;
  if (name == "torch.bool") return Dtype::boolean;
  return Dtype::other;
}

TensorView view_by_attributes(const py::handle& tensor) {
  TensorView view;
  view.data = reinterpret_cast<void*>(py::cast<std::uintptr_t>(tensor.attr("data_ptr")()));
  view.shape = py::cast<std::vector<std::int64_t>>(tensor.attr("shape"));
  const auto strides = py::cast<std::vector<std::int64_t>>(tensor.attr("stride")());
  view.contiguous = is_contiguous(view.shape, strides.data());
  view.dtype = dtype_from_name(py::cast<std::string>(py::str(tensor.attr("dtype"))));
  const py::object device = tensor.attr("device");
  view.on_cuda = py::cast<std::string>(device.attr("type")) == "cuda";
  if (!device.attr("index").is_none()) view.device_index = py::cast<int>(device.attr("index"));
  return view;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += (i ? ", " : "") + (shape[i] < 0 ? std::string("n") : std::to_string(shape[i]));
  return text + "]";
}

}  // namespace

const char* dtype_name(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32: return "float32";
    case Dtype::f64: return "float64";
    case Dtype::bf16: return "bfloat16";
    case Dtype::i32: return "int32";
    case Dtype::i64: return "int64";
    case Dtype::u8: return "uint8";
    case Dtype::boolean: return "bool";
    default: return "another type";
  }
}

std::uintptr_t current_stream_of(const py::handle& tensor, int device_index) {
  if (!kOnCuda) return 0;
  const DLExchangeApi* api = exchange_api(tensor);
  if (api != nullptr && api->current_stream != nullptr) {
    void* stream = nullptr;
    if (api->current_stream(kDlCuda, device_index, &stream) != 0) throw py::error_already_set();
    return reinterpret_cast<std::uintptr_t>(stream);
  }
  const py::object stream = py::module_::import("torch").attr("cuda").attr("current_stream")(device_index);
  return py::cast<std::uintptr_t>(stream.attr("cuda_stream"));
}

std::int64_t TensorView::numel() const {
  std::int64_t n = 1;
  for (const std::int64_t length : shape) n *= length;
  return n;
}

TensorView view_tensor(const py::handle& tensor, const char* name) {
  if (const DLExchangeApi* api = exchange_api(tensor)) return view_by_dlpack(tensor, *api);
  if (!py::hasattr(tensor, "data_ptr"))
    throw py::type_error(std::string(name) + ": needs a torch tensor, got " +
                         py::cast<std::string>(py::str(py::type::handle_of(tensor))) + ".");
  return view_by_attributes(tensor);
}

TensorView require_tensor(const py::handle& tensor, const char* name, Dtype dtype,
                          const std::vector<std::int64_t>& shape, bool on_cuda) {
  TensorView view = view_tensor(tensor, name);
  const std::string start = std::string(name) + ": needs ";
  if (view.dtype != dtype)
    throw py::type_error(start + dtype_name(dtype) + ", got " + dtype_name(view.dtype) + ".");
  if (view.on_cuda != on_cuda)
    throw py::value_error(start + (on_cuda ? "a CUDA" : "a CPU") + " tensor, got one on the " + (view.on_cuda ? "GPU" : "CPU") + ".");
  bool matches = view.shape.size() == shape.size();
  for (std::size_t i = 0; matches && i < shape.size(); ++i) matches = shape[i] < 0 || shape[i] == view.shape[i];
  if (!matches) throw py::value_error(start + "shape " + shape_text(shape) + ", got " + shape_text(view.shape) + ".");
  if (!view.contiguous) throw py::value_error(start + "contiguous memory; call .contiguous() first.");
  return view;
}

}  // namespace nf

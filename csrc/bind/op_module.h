// OpModule: where the bindings of operations register their functions.
//
// One source per binding serves both modules: neural_fields._core compiles it as it is, and
// neural_fields._cuda compiles it with NF_CUDA_MODULE, which asks for CUDA tensors (kOnCuda),
// sends the kernels' names to their CUDA versions (NF_KERNEL) and makes `def` below set the device
// and the stream around each call. The two cannot differ in names, arguments or checks.
#pragma once

#include <pybind11/pybind11.h>

#ifndef NF_CUDA_MODULE

namespace nf {
using OpModule = pybind11::module_;
constexpr bool kLocalTypes = false;
}

#else

#include <pybind11/stl.h>

#include <initializer_list>
#include <utility>

#include "bind/tensor.h"
#include "common/macros.h"

namespace nf {

constexpr bool kLocalTypes = true;  // shapes of the core have the same names

// While it lives, the tensors' device is current, and cuda::current_stream() is the stream that torch
// has made current on it.
class LaunchScope {
 public:
  LaunchScope(const char* op, std::initializer_list<py::handle> tensors);
  ~LaunchScope();
  LaunchScope(const LaunchScope&) = delete;
  LaunchScope& operator=(const LaunchScope&) = delete;

 private:
  py::object other_device_;  // torch's guard, where another device was current
  cuda::Stream previous_stream_;
  std::size_t n_scratch_;  // tensors of scratch memory that outer bindings hold
};

class OpModule : public py::module_ {
 public:
  explicit OpModule(const py::module_& m) : py::module_(m) {}

  template <class Body, class... Names>
  void def(const char* name, Body body, const Names&... names) {
    def_in_scope(name, body, &Body::operator(), names...);
  }

 private:
  static py::handle tensor_in(const py::object& argument) { return argument; }
  template <class T>
  static py::handle tensor_in(const T&) {
    return {};
  }

  template <class Body, class Result, class... Args, class... Names>
  void def_in_scope(const char* name, Body body, Result (Body::*)(Args...) const, const Names&... names) {
    py::module_::def(
        name,
        [name, body](Args... args) {
          const LaunchScope scope(name, {tensor_in(args)...});
          return body(std::forward<Args>(args)...);
        },
        names...);
  }
};

}  // namespace nf

#endif

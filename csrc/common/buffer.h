// An aligned, uninitialised scratch array that belongs to one task.
#pragma once

#include <cstdlib>
#include <new>

#include "common/macros.h"

NF_BEGIN

template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t n) : data_(static_cast<T*>(::operator new(n * sizeof(T) + 64, std::align_val_t(64)))) {}
  ~Buffer() { ::operator delete(data_, std::align_val_t(64)); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](std::size_t i) { return data_[i]; }

 private:
  T* data_;
};

NF_END

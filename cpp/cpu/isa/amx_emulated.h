// The tile registers in software, for machines without them (-DRANVIER_EMULATE_AMX=ON): what the manual says of
// TDPBF16PS. Included inside a namespace, in place of the intrinsics.
thread_local Words tile[8][kTileRows];

void configure_tiles() {}
void release_tiles() {}
template <int t>
void zero_tile() {
  for (Words& line : tile[t]) line = Words{};
}
template <int t>
void load_tile(const void* from, std::int64_t stride) {
  for (int i = 0; i < kTileRows; ++i)
    __builtin_memcpy(&tile[t][i], static_cast<const char*>(from) + i * stride, sizeof(Words));
}
template <int t>
void store_tile(void* to, std::int64_t stride) {
  for (int i = 0; i < kTileRows; ++i) __builtin_memcpy(static_cast<char*>(to) + i * stride, &tile[t][i], sizeof(Words));
}
// The even and the odd k are a chain each; their sum is added to C.
template <int r, int q>
void multiply_tiles() {
  const auto as_floats = [](Words w) { return reinterpret_cast<Vec<float>>(w); };
  for (int i = 0; i < kTileRows; ++i) {
    Vec<float> even{}, odd{};
    for (int k = 0; k < 16; ++k) {
      const Words a = tile[4 + r][i][k] - Words{}, b = tile[6 + q][k];
      even = fma(as_floats(a << 16), as_floats(b << 16), even);
      odd = fma(as_floats(a & 0xffff0000), as_floats(b & 0xffff0000), odd);
    }
    Words& c = tile[2 * r + q][i];
    c = reinterpret_cast<Words>(as_floats(c) + (even + odd));
  }
}

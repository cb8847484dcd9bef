// Included before every file of llama.cpp (build.py). GCC before 11.5, 12.4 and 13.3 takes _tile_loadconfig to read
// eight bytes of the 64 that LDTILECFG reads (GCC bug 114098), and drops ggml's stores to the others: AMX tiles then
// have whatever shape lay on the stack, and products are wrong, or an instruction is illegal.
#if defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg\t%X0" ::"m"(*(const char(*)[64])(config)))
#endif

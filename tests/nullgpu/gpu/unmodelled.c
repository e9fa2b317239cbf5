/* Functions that PyTorch asks for and nothing here models: they do nothing, return 0, and are counted by name. */
#include "counters.h"
#include <string.h>

VISIBLE char null_unmodelled_names[16384];

int null_unmodelled_call(const char *name) {
    null_count(null_unmodelled);
    size_t used = strlen(null_unmodelled_names), length = strlen(name);
    if (used + length + 2 < sizeof null_unmodelled_names && !strstr(null_unmodelled_names, name)) {
        memcpy(null_unmodelled_names + used, name, length);
        null_unmodelled_names[used + length] = ' ';
    }
    return 0;
}

#define F(name) \
    VISIBLE int name(void) { return null_unmodelled_call(#name); }
#include "missing.h"

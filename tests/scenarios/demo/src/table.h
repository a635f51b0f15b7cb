/* A hash table from words to counts: open addressing, grows at three quarters. */
#ifndef TABLE_H
#define TABLE_H
#include <stddef.h>

struct entry {
    char *word;
    size_t count;
};

struct table {
    struct entry *slots;
    size_t used, capacity;
};

/* Adds one to the count of `word`. Ends the process when memory runs out. */
void table_add(struct table *table, const char *word);

/* The count of `word`, 0 for a word that was never added. */
size_t table_count(const struct table *table, const char *word);

/* Moves the entries to the front, most frequent first, then by name; returns how many. */
size_t table_sort(struct table *table);
#endif

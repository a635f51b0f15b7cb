#include "table.h"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *check(void *memory) {
    if (!memory) {
        fputs("wordfreq: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

static size_t slot_of(const struct table *table, const char *word) {
    uint64_t hash = 14695981039346656037u;
    for (const unsigned char *c = (const unsigned char *)word; *c; c++)
        hash = (hash ^ *c) * 1099511628211u;
    size_t slot = hash & (table->capacity - 1);
    while (table->slots[slot].word && strcmp(table->slots[slot].word, word))
        slot = (slot + 1) & (table->capacity - 1);
    return slot;
}

static void grow(struct table *table) {
    struct table larger = {0};
    larger.capacity = table->capacity ? table->capacity * 2 : 64;
    larger.used = table->used;
    larger.slots = check(calloc(larger.capacity, sizeof *larger.slots));
    for (size_t i = 0; i < table->capacity; i++)
        if (table->slots[i].word)
            larger.slots[slot_of(&larger, table->slots[i].word)] = table->slots[i];
    free(table->slots);
    *table = larger;
}

void table_add(struct table *table, const char *word) {
    if (4 * (table->used + 1) > 3 * table->capacity)
        grow(table);
    struct entry *entry = &table->slots[slot_of(table, word)];
    if (!entry->word) {
        entry->word = check(malloc(strlen(word) + 1));
        strcpy(entry->word, word);
        table->used++;
    }
    entry->count++;
}

size_t table_count(const struct table *table, const char *word) {
    return table->capacity ? table->slots[slot_of(table, word)].count : 0;
}

static int compare(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    if (!x->word || !y->word)
        return 0;
    return strcmp(x->word, y->word);
}

size_t table_sort(struct table *table) {
    if (table->capacity)
        qsort(table->slots, table->capacity, sizeof *table->slots, compare);
    return table->used;
}

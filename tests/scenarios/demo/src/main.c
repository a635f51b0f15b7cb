#include "table.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

static void count(struct table *table, FILE *file) {
    char word[256];
    size_t length = 0;
    for (int c; (c = fgetc(file)) != EOF;) {
        if (isalnum(c) && length + 1 < sizeof word) {
            word[length++] = (char)tolower(c);
        } else if (length) {
            word[length] = 0;
            table_add(table, word);
            length = 0;
        }
    }
    if (length) {
        word[length] = 0;
        table_add(table, word);
    }
}

static int self_test(void) {
    struct table table = {0};
    char word[16];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 1000; i++) {
            snprintf(word, sizeof word, "w%d", i);
            table_add(&table, word);
        }
    int ok = table.used == 1000 && table_count(&table, "w7") == 2 && table_count(&table, "none") == 0;
    puts(ok ? "self-test: ok" : "self-test: FAILED");
    return !ok;
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "--self-test"))
        return self_test();
    struct table table = {0};
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "r");
        if (!file) {
            perror(argv[i]);
            return 1;
        }
        count(&table, file);
        fclose(file);
    }
    size_t used = table_sort(&table);
    for (size_t i = 0; i < used && i < 10; i++)
        printf("%6zu %s\n", table.slots[i].count, table.slots[i].word);
    return 0;
}

//! Tables: word => text, or the beginning of the error. Checked against BuildKit's lexer.

use super::*;

fn env() -> Vec<String> {
    ["x=abcabc", "y=", "z=a b/c*d", "n=1\n12\n2", "b=$0x", "e=éaé", "_u=u", "p=/usr/lib/libz.so.1"]
        .map(Into::into)
        .to_vec()
}

fn expand(lexer: Lexer, word: &str) -> String {
    match lexer.expand(word, &env()) {
        Ok(done) => done.text,
        Err(error) => format!("! {}", error.kind),
    }
}

fn check(table: &[(&str, &str)]) {
    for (word, expect) in table {
        assert_eq!(expand(Lexer::new('\\'), word), *expect, "{word:?}");
    }
}

fn check_words(lexer: Lexer, table: &[(&str, &[&str])]) {
    for (word, expect) in table {
        assert_eq!(lexer.words(word, &env()).unwrap(), *expect, "{word:?}");
    }
}

#[test]
fn plain_text_and_quotes() {
    check(&[
        ("", ""),
        ("a b", "a b"),
        ("  a  ", "  a  "),
        ("'a $x'", "a $x"),
        ("\"a $x\"", "a abcabc"),
        ("\"a 'b' c\"", "a 'b' c"),
        ("'a \"b\" c'", "a \"b\" c"),
        ("a\"b\"'c'", "abc"),
        ("''", ""),
        ("\u{feff}a\u{feff}", "a\u{feff}"),
        ("'", "! no matching single quote"),
        ("\"a", "! no matching double quote"),
        ("it's", "! no matching single quote"),
    ]);
}

#[test]
fn escapes() {
    check(&[
        ("a\\ b", "a b"),
        ("\\$x", "$x"),
        ("\\\\", "\\"),
        ("a\\", "a"),
        ("\\'a\\'", "'a'"),
        ("'a\\'", "a\\"),
        ("\"\\a\\\"\\$x\\\\\"", "\\a\"$x\\"),
        ("\\n", "n"),
        ("\"\\n\"", "\\n"),
        ("a`b", "a`b"),
    ]);
    let backtick = Lexer::new('`');
    assert_eq!(expand(backtick, "C:\\a`$x`` \"`\"\""), "C:\\a$x` \"");
}

#[test]
fn names() {
    check(&[
        ("$x", "abcabc"),
        ("${x}", "abcabc"),
        ("$x-$x", "abcabc-abcabc"),
        ("$xy", ""),
        ("${x}y", "abcabcy"),
        ("$_u", "u"),
        ("$", "$"),
        ("$ x", "$ x"),
        ("$.", "$."),
        ("$\"x\"", "$x"),
        ("a$", "a$"),
        ("$1x", "x"),
        ("$12x", "x"),
        ("$@x", "x"),
        ("$$x", "x"),
        ("$#", ""),
        ("${!}", ""),
        ("$é", ""),
        ("$x日", ""),
        ("${x", "! missing `}`"),
        ("${", "! missing `}`"),
        ("${}", "! bad substitution"),
        ("${:}", "! bad substitution"),
        ("${{x}}", "! bad substitution"),
        ("${ x}", "! unsupported modifier ` `"),
        ("${x.y}", "! unsupported modifier `.`"),
        ("${#x}", "! unsupported modifier `x`"),
        ("${x:0:1}", "! unsupported modifier `:0`"),
        ("${x^^}", "! unsupported modifier `^`"),
    ]);
}

#[test]
fn defaults_and_alternatives() {
    check(&[
        ("${x:-d}", "abcabc"),
        ("${y:-d}", "d"),
        ("${y-d}", ""),
        ("${q-d}", "d"),
        ("${q:-d}", "d"),
        ("${q:-}", ""),
        ("${x:+d}", "d"),
        ("${y:+d}", ""),
        ("${y+d}", "d"),
        ("${q+d}", ""),
        ("${q:-${x}}", "abcabc"),
        ("${q:-${r:-${x:+deep}}}", "deep"),
        ("${q:-a b}", "a b"),
        ("${q:-'}'}", "}"),
        ("${q:-\"$x\"}", "abcabc"),
        ("${q:-\\}}", "}"),
        ("${q:-a:b}", "a:b"),
        ("${x:-", "! missing `}`"),
        ("${x:-'}", "! no matching single quote"),
    ]);
}

#[test]
fn required() {
    check(&[
        ("${x?no}", "abcabc"),
        ("${x:?no}", "abcabc"),
        ("${y?no}", ""),
        ("${y:?no}", "! y: no"),
        ("${q?no}", "! q: no"),
        ("${q?}", "! q: is not allowed to be unset"),
        ("${y:?}", "! y: is not allowed to be empty"),
        ("${q:?is $x}", "! q: is abcabc"),
    ]);
}

#[test]
fn prefixes_and_suffixes() {
    check(&[
        ("${x#a}", "bcabc"),
        ("${x#b}", "abcabc"),
        ("${x#*b}", "cabc"),
        ("${x##*b}", "c"),
        ("${x#?}", "bcabc"),
        ("${x#??}", "cabc"),
        ("${x#*}", "abcabc"),
        ("${x##*}", ""),
        ("${x%c}", "abcab"),
        ("${x%b*}", "abca"),
        ("${x%%b*}", "a"),
        ("${x%%*}", ""),
        ("${x%?}", "abcab"),
        ("${p##*/}", "libz.so.1"),
        ("${p%/*}", "/usr/lib"),
        ("${p%%.*}", "/usr/lib/libz"),
        ("${p#*.}", "so.1"),
        ("${z#a b\\/}", "c*d"),
        ("${z%\\*d}", "a b/c"),
        ("${z%'*d'}", "a b/c*"),
        ("${e#é}", "aé"),
        ("${e%é}", "éa"),
        ("${x#$q}", "abcabc"),
        ("${q#a}", ""),
        ("${n#*2}", "1\n12\n2"),
        ("${n#1?}", "1\n12\n2"),
        ("${x#[a]}", "abcabc"),
        ("${x:#a}", "! unsupported modifier `:#`"),
        ("${x#\\a}", "! invalid escape `\\a` in pattern `\\a`; only *, ? and \\ can be escaped"),
        ("${x#a", "! missing `}`"),
    ]);
}

#[test]
fn replacements() {
    check(&[
        ("${x/b/X}", "aXcabc"),
        ("${x//b/X}", "aXcaXc"),
        ("${x//b/}", "acac"),
        ("${x/q/X}", "abcabc"),
        ("${x/b*b/-}", "a-c"),
        ("${x//?/-}", "------"),
        ("${x//*/-}", "-"),
        ("${y//x/-}", ""),
        ("${x////-}", "/-a/-b/-c/-a/-b/-c/-"),
        ("${x//b*/-}", "a-"),
        ("${z//\\//_}", "a b_c*d"),
        ("${z/\\*/_}", "a b/c_d"),
        ("${x/b/${y:-Y}}", "aYcabc"),
        ("${x/b}", "! missing `/` in `${name/pattern/replacement}`"),
        ("${x/b/", "! missing `}`"),
        ("${n//?/.}", ".\n..\n."),
        ("${n//1*/-}", "-\n-\n2"),
        // A template of Go's regular expressions, but only when all are replaced.
        ("${x//b/$b}", "acac"),
        ("${x/b/$b}", "a$0xcabc"),
        ("${x//b/<\\$0>}", "a<\\b>ca<\\b>c"),
        ("${q/a/b}", ""),
    ]);
}

#[test]
fn keeping_unset_variables() {
    let lexer = Lexer { keep_unset: true, ..Lexer::new('\\') };
    for (word, expect) in [
        ("$q ${q} $x", "$q ${q} abcabc"),
        ("${q:-a'b'}", "${q:-ab}"),
        ("${q+a}${y:+a}", "${q+a}"),
        ("${q/a/b}${q//a/b}", "${q/a/b}${q/a/b}"),
        ("${q##a}", "${q##a}"),
        ("${q:0}", "${q:0}"),
        ("${x:0}", "! unsupported modifier `:0`"),
    ] {
        assert_eq!(expand(lexer, word), expect, "{word:?}");
    }
}

#[test]
fn raw_modes() {
    let raw = Lexer { raw_quotes: true, ..Lexer::new('\\') };
    assert_eq!(expand(raw, "'a' \"b$x\" \\c"), "'a' \"babcabc\" c");
    let raw = Lexer { raw_quotes: true, raw_escapes: true, ..Lexer::new('\\') };
    assert_eq!(expand(raw, "'a\\' \\c \"\\\"\""), "'a\\' \\c \"\\\"\"");
    let body = Lexer { ignore_quotes: true, ..Lexer::new('\\') };
    assert_eq!(expand(body, "it's \"$x\" \\$x\n"), "it's \"abcabc\" $x\n");
}

#[test]
fn splitting() {
    check_words(
        Lexer::new('\\'),
        &[
            ("", &[]),
            ("  ", &[]),
            ("a b", &["a", "b"]),
            (" a\t\n b ", &["a", "b"]),
            ("'a b' c", &["a b", "c"]),
            ("a\\ b", &["a b"]),
            ("$z", &["a", "b/c*d"]),
            ("\"$z\"", &["a b/c*d"]),
            ("$y", &[]),
            ("\"\"", &[]),
            ("a\"\"b", &["ab"]),
            ("a<<b <<  c <d", &["a<<b", "<<  c", "<d"]),
            // A nested word clears what was collected before it.
            ("ab${q:-cd}ef", &["cdef"]),
            ("8${x}0", &["8abcabc0"]),
        ],
    );
}

#[test]
fn used_variables_are_reported() {
    let done = Lexer::new('\\').expand("$x ${q:-$r} '$s'", &env()).unwrap();
    assert_eq!(done.matched.iter().collect::<Vec<_>>(), ["x"]);
    assert_eq!(done.unmatched.iter().collect::<Vec<_>>(), ["q", "r"]);
}

#[test]
fn the_last_entry_of_a_list_wins() {
    let list = vec!["a=1".to_owned(), "a=2=3".to_owned(), "b".to_owned()];
    assert_eq!(Env::get(&list, "a"), Some("2=3"));
    assert_eq!(Env::get(&list, "b"), Some(""));
    assert_eq!(Env::get(&list, "c"), None);
}

#[test]
fn nesting_is_limited() {
    let deep = |n: usize| format!("{}a{}", "${q:-".repeat(n), "}".repeat(n));
    assert_eq!(expand(Lexer::new('\\'), &deep(150)), "a");
    assert!(expand(Lexer::new('\\'), &deep(100_000)).starts_with("! substitutions are nested"));
}

#[test]
fn patterns_take_linear_time() {
    let value = "a".repeat(20_000);
    let pattern = "*a".repeat(30) + "b";
    assert_eq!(pattern::trim_prefix(&pattern, &value, Stars::Lazy).unwrap(), value);
    assert_eq!(pattern::replace(&pattern, &value, "x", true).unwrap(), value);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn never_panics(word in "([$\\{}:+?#%/*\\\\`\"' <xyq@0-9\n-]|\\PC){0,40}", mode in 0u8..32) {
            let bit = |n: u8| mode & (1 << n) != 0;
            let lexer = Lexer {
                escape: if bit(0) { '\\' } else { '`' },
                raw_quotes: bit(1),
                raw_escapes: bit(2),
                ignore_quotes: bit(3),
                keep_unset: bit(4),
            };
            let _ = lexer.expand(&word, &env());
        }

        #[test]
        fn text_without_marks_is_kept(word in "[a-z0-9 ./:=,-]{0,40}") {
            prop_assert_eq!(Lexer::new('\\').expand(&word, &NoEnv).unwrap().text, word);
        }

        #[test]
        fn replacing_a_literal_is_str_replace(value in "[ab]{0,12}", pattern in "[ab]{1,3}", with in "[xy]{0,3}") {
            prop_assert_eq!(pattern::replace(&pattern, &value, &with, true).unwrap(), value.replace(&pattern, &with));
            prop_assert_eq!(pattern::replace(&pattern, &value, &with, false).unwrap(), value.replacen(&pattern, &with, 1));
        }

        #[test]
        fn trimming_leaves_a_part(value in "[ab\n]{0,12}", pattern in "[ab*?]{0,5}") {
            for stars in [Stars::Greedy, Stars::Lazy] {
                prop_assert!(value.ends_with(&pattern::trim_prefix(&pattern, &value, stars).unwrap()));
                prop_assert!(value.starts_with(&pattern::trim_suffix(&pattern, &value, stars).unwrap()));
            }
        }
    }
}

use super::*;

fn masks(values: &[&str]) -> Masks {
    values.iter().copied().collect()
}

#[test]
fn every_encoding_is_masked() {
    let check = |secret: &str, text: &str, expect: &str| {
        assert_eq!(masks(&[secret]).apply(text), expect, "{secret} in {text}");
    };
    check("pass'word", "x pass''word y", "x *** y");
    check("a&b<c>\"'", "a&amp;b&lt;c&gt;&quot;&apos;", "***");
    check("päss word/1", "p%C3%A4ss%20word%2F1", "***");
    check("tab\there\u{1}", "tab\\there\\u0001", "***");
    check("say \"it\"", "say \\\"it\\\"", "***");
    check("\"quoted value\"", "quoted value", "***");
    check("\"short\"", "short", "short");
    // base64("x:Password123!y"): the digit shared with what follows stays.
    check("Password123!", "eDpQYXNzd29yZDEyMyF5", "eDpQ***F5");
    // The URL alphabet, without padding.
    check("\u{ff}\u{fe}~~??>>", &base64_url("\u{ff}\u{fe}~~??>>"), "***");
}

fn base64_url(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
}

#[test]
fn overlapping_and_touching_hits_become_one() {
    assert_eq!(masks(&["abc", "cde", "fg"]).apply("xabcdefgx"), "x***x");
    assert_eq!(masks(&["abc"]).apply("abc-abcabc"), "***-***");
    assert_eq!(masks(&["abcdef", "cd"]).apply("abcde cd"), "ab***e ***");
}

#[test]
fn lines_of_a_value_are_masked_too() {
    let masks = masks(&["first line\r\nsecond\n\n"]);
    assert_eq!(masks.apply("a first line b second"), "a *** b ***");
    assert_eq!(masks.values().count(), 3);
}

#[test]
fn empty_values_mask_nothing() {
    let masks = masks(&["", "\n"]);
    assert_eq!(masks.apply("a\r\nb"), "a\r\nb".replace('\n', "***"));
    assert!(Masks::new().is_empty() && Masks::new().apply("a") == "a");
}

#[test]
fn values_added_one_by_one_are_all_masked() {
    let mut masks = Masks::new();
    for number in 0..100 {
        masks.add(&format!("secret-{number:03}."));
        for known in [0, number / 2, number] {
            assert_eq!(masks.apply(&format!("<secret-{known:03}.>")), "<***>", "{known} of {number}");
        }
    }
    let stored = serde_json::to_string(&masks).unwrap();
    assert!(!stored.contains(&base64_url("secret-001.")), "derived forms are not stored");
    let restored: Masks = serde_json::from_str(&stored).unwrap();
    assert_eq!(restored.apply("secret-099."), "***");
    assert_eq!(format!("{masks:?}"), "Masks(100 values)");
}

#[test]
fn k4_shapes_of_credentials_are_masked_without_being_registered() {
    let run = |length: usize| "a1B2c3D4".repeat(40)[..length].to_owned();
    let hex = "0123456789abcdef".repeat(3);
    let none = Masks::new();
    let check = |text: &str, expect: &str| assert_eq!(none.apply(text), expect);
    check(&format!("jwt eyJ{0}.eyJ{0}.{0}!", run(20)), "jwt ***!");
    for kind in ["ghp", "gho", "ghu", "ghs", "ghr"] {
        check(&format!("x-access-token:{kind}_{}@github.com", run(36)), "x-access-token:***@github.com");
    }
    check(&format!("github_pat_{}_{}", run(22), run(59)), "***");
    check(&format!("token v1.{} end", &hex[..40]), "token *** end");
    check(&format!("//registry/:_authToken=npm_{}", run(36)), "//registry/:_authToken=***");
    check(&format!("key oy2{}", &"ab3".repeat(20)[..43]), "key ***");
    check("> Authorization: Bearer abcdef.123456", "> Authorization: Bearer ***");
    check(r#"{"authorization": "BEARER abcdefgh=="}"#, r#"{"authorization": "BEARER ***"}"#);
    check(&format!("AccountName=x;AccountKey={}==;Suffix=y", run(86)), "AccountName=x;AccountKey=***;Suffix=y");
    check(&format!("{}+ASt{}==", run(76), run(6)), "***");
    check(&format!("{}AzSe{}", run(42), run(6)), "***");
    check(&format!("secret abc8Q~{}", run(34)), "secret ***");
    check("postgres://app:hunter2@db:5432/app", "postgres://app:***@db:5432/app");
    check("REDIS://:hunter2@cache", "REDIS://:***@cache");

    for plain in [
        "https://user:pass@example.com is not a database",
        "ghp_short and npm_install_all",
        "bearer of bad news",
        "eyJ.eyJ.x",
        "release v1.0123",
        "postgres://db:5432/app",
        "see https://example.com",
    ] {
        check(plain, plain);
    }
    // A value that only looks like a secret is no reason to drop an output (N6).
    let token = format!("ghs_{}", run(36));
    assert!(!none.hits(token.as_bytes()) && none.first(token.as_bytes()) == Some(0));
}

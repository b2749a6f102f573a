//! Any patterns select a part of the listing, in the same order whatever the order of the listing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use towline::toolkit::hash_files::{Entry, EntryKind, Globs};

const FILES: [&str; 8] = ["/w/a", "/w/a/b", "/w/a-b", "/w/.c/d", "/w/[x]", "/w/ä", "/w/a/b/c/d", "/elsewhere"];

fuzz_target!(|text: &str| {
    let arguments: Vec<String> = text.split('\0').map(str::to_owned).collect();
    let Ok(globs) = Globs::parse(&arguments, "/w", "/home") else { return };
    let mut listing = FILES.map(|path| Entry { path: path.to_owned(), kind: EntryKind::File });
    let selected = globs.select(&listing).expect("there are no broken links");
    listing.reverse();
    assert_eq!(globs.select(&listing).expect("there are no broken links"), selected);
    for file in &selected {
        assert!(globs.search_paths().iter().any(|path| file.starts_with(path)), "{file}");
    }
});

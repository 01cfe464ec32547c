//! What lies on the ESP: the text of a boot entry, its name, the loader's settings.
#![no_main]

use hull_boot::entry::{Entry, EntryName};
use hull_boot::{cmdline, loader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    drop(loader::configured_default(text));
    let _count = cmdline::words(text).count();
    if let Some(name) = EntryName::parse(text) {
        assert_eq!(name.to_string(), text, "a name is printed as it was read");
    }
    if let Ok(entry) = Entry::parse(text) {
        let again = Entry::parse(&entry.to_text()).expect("a written entry can be read");
        assert_eq!(again.to_text(), entry.to_text());
    }
});

//! Where in a call's parameters a value stands, and what goes by which name there.
//!
//! A body may hold hundreds of thousands of values below one long name. So nothing here costs more for a value than the
//! longest name of an argument, whatever stands above it: a [`Pointer`] keeps no more than what could be such a name.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write;

use serde::de::{Deserialize, Deserializer, Visitor};

use super::{BodyError, quoted};
use crate::message::ARGUMENT_NAME_BYTES_MAX;

/// Where in `params` a tool's call has the tool's arguments.
pub(super) const ARGUMENTS: &str = "/arguments";

/// Longest pointer that is kept whole: to a tool's argument with the longest name, if that is all escapes of two bytes.
const POINTER_BYTES_MAX: usize = ARGUMENTS.len() + 1 + 2 * ARGUMENT_NAME_BYTES_MAX;

/// A JSON Pointer (RFC 6901) below `params`, up to the length beyond which nothing is an argument's name.
#[derive(Default)]
pub(super) struct Pointer {
    /// Its beginning, where it is cut.
    text: String,
    is_cut: bool,
}

/// A pointer's end, to come back to.
#[derive(Clone, Copy)]
pub(super) struct End {
    length: usize,
    is_cut: bool,
}

/// What an argument at a pointer is called.
#[derive(Debug, PartialEq)]
pub(super) enum ArgumentName<'p> {
    /// This.
    Whole(Cow<'p, str>),
    /// Something longer than [`ARGUMENT_NAME_BYTES_MAX`], which begins like this.
    TooLong(&'p str),
}

impl Pointer {
    pub(super) fn end(&self) -> End {
        End { length: self.text.len(), is_cut: self.is_cut }
    }

    pub(super) fn return_to(&mut self, end: End) {
        self.text.truncate(end.length);
        self.is_cut = end.is_cut;
    }

    /// Goes down to a member (RFC 6901 section 3).
    pub(super) fn enter(&mut self, name: &str) {
        self.push("/");
        let mut rest = name;
        while !self.is_cut && !rest.is_empty() {
            let plain = rest.find(['~', '/']).unwrap_or(rest.len());
            self.push(&rest[..plain]);
            rest = &rest[plain..];
            if let Some(escaped) = rest.chars().next() {
                self.push(if escaped == '~' { "~0" } else { "~1" });
                rest = &rest[1..];
            }
        }
    }

    /// Goes down to an element.
    pub(super) fn enter_element(&mut self, number: usize) {
        self.push("/");
        if !self.is_cut {
            // To a text, which cannot fail.
            let _ = write!(self.text, "{number}");
            self.is_cut = self.text.len() > POINTER_BYTES_MAX;
            self.text.truncate(POINTER_BYTES_MAX);
        }
    }

    /// Adds as much as is kept.
    fn push(&mut self, piece: &str) {
        if self.is_cut {
            return;
        }
        let mut kept = piece.len().min(POINTER_BYTES_MAX - self.text.len());
        while !piece.is_char_boundary(kept) {
            kept -= 1;
        }
        self.text.push_str(&piece[..kept]);
        self.is_cut = kept < piece.len();
    }

    /// Whether it is this one, which is short.
    pub(super) fn is(&self, pointer: &str) -> bool {
        !self.is_cut && self.text == pointer
    }

    /// What an argument here is called, if all parameters are arguments. `is_direct`: it is a member
    /// of the parameters themselves, and goes by its own name.
    pub(super) fn argument(&self, is_direct: bool) -> ArgumentName<'_> {
        self.name_of(&self.text, is_direct)
    }

    /// The same if only those of a tool are. `None`: this is no place for those.
    pub(super) fn tool_argument(&self, is_direct: bool) -> Option<ArgumentName<'_>> {
        let below = self.text.strip_prefix(ARGUMENTS).filter(|below| below.starts_with('/'))?;
        Some(self.name_of(below, is_direct))
    }

    fn name_of<'p>(&self, pointer: &'p str, is_direct: bool) -> ArgumentName<'p> {
        if self.is_cut {
            return ArgumentName::TooLong(pointer);
        }
        let name = match pointer.get(1..).filter(|token| is_direct && !token.starts_with("~1")) {
            // The last slash first, or `~01` would become one. A member of the parameters themselves has one value, so all
            // that is copied here is no longer than the body.
            Some(token) if token.contains('~') => Cow::Owned(token.replace("~1", "/").replace("~0", "~")),
            Some(token) => Cow::Borrowed(token),
            None => Cow::Borrowed(pointer),
        };
        if name.len() > ARGUMENT_NAME_BYTES_MAX { ArgumentName::TooLong(pointer) } else { ArgumentName::Whole(name) }
    }
}

/// The name of a member, without a copy where the text holds it as it is.
pub(super) struct Name<'t>(pub(super) Cow<'t, str>);

impl<'t> Deserialize<'t> for Name<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'t> Visitor<'t> for Reading {
            type Value = Name<'t>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name")
            }
            fn visit_borrowed_str<E>(self, name: &'t str) -> Result<Name<'t>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Name<'t>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Reading)
    }
}

/// The names of one object.
#[derive(Default)]
pub(super) struct Names<'t> {
    /// As they are, by what a reader takes them for that does not look at case. Hashed under a secret of this process, so
    /// that nobody can make names up that take long to tell apart.
    folded: HashMap<Cow<'t, str>, Cow<'t, str>>,
}

impl<'t> Names<'t> {
    /// One more name.
    ///
    /// # Errors
    /// It is there already, for some reader or for all.
    pub(super) fn add(&mut self, name: Cow<'t, str>) -> Result<(), BodyError> {
        let folded = match &name {
            Cow::Borrowed(name) => folded(name),
            Cow::Owned(name) => Cow::Owned(folded(name).into_owned()),
        };
        match self.folded.entry(folded) {
            Entry::Vacant(place) => {
                place.insert(name);
                Ok(())
            }
            Entry::Occupied(same) if *same.get() == name => Err(BodyError::Duplicate(quoted(&name))),
            Entry::Occupied(_) => Err(BodyError::CaseVariant(quoted(&name))),
        }
    }
}

/// A name as the most careless reader of JSON compares it: without case.
fn folded(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(name);
    }
    // Three times, because one step of Unicode's case mapping can lead to a letter with a case of its own: ẞ, ß, SS.
    Cow::Owned(name.to_lowercase().to_uppercase().to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a megabyte of name, and hundreds of thousands of values below it: a name was built for each of them once, which
    /// took seconds. Neither what is kept nor what is handed out may grow with the names above.
    #[test]
    fn however_long_the_names_above_little_is_kept_and_nothing_is_built() {
        for long in ["k", "~", "/", "é", "~é/"].map(|piece| piece.repeat(200_000)) {
            for prefix in [None, Some("arguments"), Some("x")] {
                let mut pointer = Pointer::default();
                prefix.into_iter().for_each(|prefix| pointer.enter(prefix));
                let above = pointer.end();
                pointer.enter(&long);
                let here = pointer.end();
                for number in [0, 7, usize::MAX] {
                    pointer.enter_element(number);
                    assert!(pointer.text.len() <= POINTER_BYTES_MAX);
                    assert!(matches!(pointer.argument(true), ArgumentName::TooLong(_)));
                    assert_eq!(pointer.tool_argument(true).is_some(), prefix == Some("arguments"));
                    pointer.return_to(here);
                }
                pointer.return_to(above);
                assert_eq!((pointer.is_cut, pointer.text.len()), (false, prefix.map_or(0, |prefix| 1 + prefix.len())));
            }
        }
    }

    #[test]
    fn the_longest_name_is_a_name_however_it_is_escaped() {
        let at = |names: &[&str]| {
            let mut pointer = Pointer::default();
            names.iter().for_each(|name| pointer.enter(name));
            pointer
        };
        for piece in ["a", "~"] {
            let longest = piece.repeat(ARGUMENT_NAME_BYTES_MAX);
            let more = format!("{longest}{piece}");
            let whole = ArgumentName::Whole(Cow::Borrowed(&*longest));
            assert_eq!(at(&[&longest]).argument(true), whole);
            assert_eq!(at(&["arguments", &longest]).tool_argument(true), Some(whole));
            assert!(matches!(at(&[&more]).argument(true), ArgumentName::TooLong(_)));
            assert!(matches!(at(&["arguments", &more]).tool_argument(true), Some(ArgumentName::TooLong(_))));
        }
        // A pointer counts as it is written.
        let longest = "a".repeat(ARGUMENT_NAME_BYTES_MAX - 3);
        let pointer = format!("/{longest}/0");
        assert_eq!(at(&[&longest, "0"]).argument(false), ArgumentName::Whole(Cow::Borrowed(&*pointer)));
        assert!(matches!(at(&[&longest, "10"]).argument(false), ArgumentName::TooLong(_)));
    }
}

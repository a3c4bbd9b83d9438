//! The reader: one pass over the text, without a tree of what it holds.
//!
//! `serde_json` does JSON; this walks what it finds, keeps the place where it is as a JSON Pointer below `params`, and
//! notes what the facts are made of. It looks at every member at every level, known or not.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::place::{ARGUMENTS, ArgumentName, Name, Names, Pointer};
use super::{Body, BodyError, Call, DEPTH_MAX, INTEGER_MAX, Id, quoted};
use crate::language::ArgumentNames;
use crate::message::{ARGUMENTS_MAX, ArgValue, BodyItem, ITEMS_MAX, TEXT_BYTES_MAX};

/// The method that calls a tool.
const TOOLS_CALL: &str = "tools/call";
/// Where a call says which version of its protocol it speaks.
const PROTOCOL_VERSION: &str = "/_meta/io.modelcontextprotocol~1protocolVersion";

pub(super) fn read(text: &str, arguments: &ArgumentNames<'_>) -> Result<Body, BodyError> {
    let mut reader =
        Reader { arguments, body: Body::default(), call: Found::default(), pointer: Pointer::default(), error: None };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = Document { reader: &mut reader }.deserialize(&mut json).and_then(|()| json.end());
    match (reader.error, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) => Err(not_json(&error)),
        (None, Ok(())) if reader.body.items.is_empty() => Err(BodyError::EmptyBatch),
        (None, Ok(())) => Ok(reader.body),
    }
}

fn not_json(error: &serde_json::Error) -> BodyError {
    let (line, column) = (error.line(), error.column());
    // The place is a part of the text, and a field of its own here.
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what).to_owned();
    BodyError::NotJson { what, line, column }
}

struct Reader<'a> {
    arguments: &'a ArgumentNames<'a>,
    body: Body,
    /// The call that is being read.
    call: Found,
    /// Where in its `params` the value stands that is being read.
    pointer: Pointer,
    /// Why reading ended: serde's errors are only texts.
    error: Option<BodyError>,
}

impl Reader<'_> {
    fn fail<E: serde::de::Error>(&mut self, error: BodyError) -> E {
        self.error = Some(error);
        E::custom("refused")
    }

    fn text<E: serde::de::Error>(&mut self, text: &str) -> Result<(), E> {
        if text.as_bytes().contains(&0) { Err(self.fail(BodyError::Null)) } else { Ok(()) }
    }

    /// The next name of an object.
    fn name<'de, A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
        names: &mut Names<'de>,
    ) -> Result<Option<Cow<'de, str>>, A::Error> {
        let Some(Name(name)) = map.next_key()? else { return Ok(None) };
        self.text(&name)?;
        names.add(name.clone()).map_err(|error| self.fail(error))?;
        Ok(Some(name))
    }
}

/// What a visitor that wants objects says to everything else.
macro_rules! not_objects {
    () => {
        fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
            Err(self.reader.fail(BodyError::NotACall))
        }
        fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
            Err(self.reader.fail(BodyError::NotACall))
        }
        fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
            Err(self.reader.fail(BodyError::NotACall))
        }
        fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
            Err(self.reader.fail(BodyError::NotACall))
        }
        fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
            Err(self.reader.fail(BodyError::NotACall))
        }
        fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
            Err(self.reader.fail(BodyError::NotACall))
        }
    };
}

/// The whole body.
struct Document<'r, 'a> {
    reader: &'r mut Reader<'a>,
}

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call or a list of calls")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        Item { reader: self.reader, depth: 1 }.visit_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.reader.body.is_batch = true;
        while items.next_element_seed(Item { reader: self.reader, depth: 2 })?.is_some() {}
        Ok(())
    }

    not_objects!();
}

/// One call.
struct Item<'r, 'a> {
    reader: &'r mut Reader<'a>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { reader, depth } = self;
        if reader.body.items.len() == ITEMS_MAX {
            return Err(reader.fail(BodyError::TooManyItems));
        }
        let mut names = Names::default();
        reader.call = Found::default();
        while let Some(name) = reader.name(&mut map, &mut names)? {
            match &*name {
                "jsonrpc" => {
                    let version = map.next_value_seed(Scalar { reader })?;
                    if version != Value::Text(Cow::Borrowed("2.0")) {
                        return Err(reader.fail(BodyError::Member("`jsonrpc` is not \"2.0\"")));
                    }
                    reader.call.is_2_0 = true;
                }
                "method" => match map.next_value_seed(Scalar { reader })? {
                    // The empty name is what a response goes by.
                    Value::Text(method) if !method.is_empty() => reader.call.method = Some(method.into_owned()),
                    _ => return Err(reader.fail(BodyError::Member("`method` is no text, or an empty one"))),
                },
                "id" => {
                    reader.call.id = Some(match map.next_value_seed(Scalar { reader })? {
                        Value::Text(text) => Id::Text(text.into_owned()),
                        Value::Integer(number) => Id::Integer(number),
                        Value::Null => Id::Null,
                        _ => return Err(reader.fail(BodyError::Member("`id` is neither a text nor a whole number"))),
                    });
                }
                "params" => {
                    map.next_value_seed(Walk { reader, depth, level: 0, place: Place::Root })?;
                }
                "result" => {
                    reader.call.has_result = true;
                    map.next_value_seed(Walk { reader, depth, level: 0, place: Place::Elsewhere })?;
                }
                "error" => {
                    reader.call.has_error = true;
                    map.next_value_seed(Walk { reader, depth, level: 0, place: Place::Elsewhere })?;
                }
                other => return Err(reader.fail(BodyError::UnknownMember(quoted(other)))),
            }
        }
        let (item, call) = std::mem::take(&mut reader.call).finish().map_err(|error| reader.fail(error))?;
        reader.body.items.push(item);
        reader.body.calls.push(call);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.reader.fail(BodyError::NotACall))
    }

    not_objects!();
}

/// What a call says, as far as it was read. Which parameters are arguments is known when the method is, and members come in any order.
#[derive(Default)]
struct Found {
    is_2_0: bool,
    method: Option<String>,
    id: Option<Id>,
    has_result: bool,
    has_error: bool,
    /// The arguments if all parameters are.
    of_params: Arguments,
    /// The arguments if those of a tool are.
    of_tool: Arguments,
    name: Option<String>,
    uri: Option<String>,
    protocol_version: Option<String>,
    /// Whether `params.arguments` is something else than an object or `null`.
    has_odd_arguments: bool,
}

#[derive(Default)]
struct Arguments {
    stated: Vec<(String, ArgValue)>,
    unstated: Option<String>,
}

impl Found {
    fn finish(self) -> Result<(BodyItem, Call), BodyError> {
        let call = Call { id: self.id, name: self.name.clone().or(self.uri), protocol_version: self.protocol_version };
        if !self.is_2_0 {
            return Err(BodyError::Member("there is no `jsonrpc`, which has to be \"2.0\""));
        }
        let Some(rpc) = self.method else {
            return match (self.has_result, self.has_error, &call.id) {
                (true, false, Some(_)) | (false, true, Some(_)) => Ok((BodyItem::default(), call)),
                (false, false, _) => Err(BodyError::Member("there is no `method`")),
                _ => Err(BodyError::Member("a response has an `id`, and either `result` or `error`")),
            };
        };
        if self.has_result || self.has_error {
            return Err(BodyError::Member("there is both a `method` and a response's `result` or `error`"));
        }
        let is_tool = rpc == TOOLS_CALL;
        if is_tool && self.has_odd_arguments {
            return Err(BodyError::Member("the `arguments` of a tool are no object"));
        }
        let arguments = if is_tool { self.of_tool } else { self.of_params };
        let item =
            BodyItem { rpc, tool: self.name.filter(|_| is_tool), args: arguments.stated, unstated: arguments.unstated };
        Ok((item, call))
    }
}

/// A value without members.
#[derive(Debug, PartialEq)]
enum Value<'v> {
    Null,
    Bool(bool),
    Integer(i64),
    /// Not a whole number that every reader reads alike.
    Number,
    Text(Cow<'v, str>),
    /// An empty object or list.
    Composite,
}

fn whole(number: i64) -> Value<'static> {
    if (-INTEGER_MAX..=INTEGER_MAX).contains(&number) { Value::Integer(number) } else { Value::Number }
}

const COMPOSITE: BodyError = BodyError::Member("`jsonrpc`, `method` or `id` is an object or a list");

/// Reads a value that must be a scalar.
struct Scalar<'r, 'a> {
    reader: &'r mut Reader<'a>,
}

impl<'de> DeserializeSeed<'de> for Scalar<'_, '_> {
    type Value = Value<'static>;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value<'static>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scalar<'_, '_> {
    type Value = Value<'static>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar")
    }
    fn visit_unit<E>(self) -> Result<Value<'static>, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, truth: bool) -> Result<Value<'static>, E> {
        Ok(Value::Bool(truth))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Value<'static>, E> {
        Ok(whole(number))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Value<'static>, E> {
        Ok(i64::try_from(number).map_or(Value::Number, whole))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Value<'static>, E> {
        Ok(Value::Number)
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value<'static>, E> {
        self.reader.text(text)?;
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Value<'static>, A::Error> {
        Err(self.reader.fail(COMPOSITE))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Value<'static>, A::Error> {
        Err(self.reader.fail(COMPOSITE))
    }
}

/// Where a value stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is `params` itself.
    Root,
    /// Below `params`, as a member of an object.
    Member,
    /// Below `params`, as an element of a list.
    Element,
    /// In a part of the call that supplies no facts.
    Elsewhere,
}

/// Walks through a value.
struct Walk<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// How many objects and lists it stands in.
    depth: usize,
    /// How many of them are `params` or below it.
    level: usize,
    place: Place,
}

impl<'a> Walk<'_, 'a> {
    /// A value below this one.
    fn below(&mut self, place: Place) -> Walk<'_, 'a> {
        let place = if self.place == Place::Elsewhere { Place::Elsewhere } else { place };
        Walk { reader: self.reader, depth: self.depth + 1, level: self.level + 1, place }
    }

    fn enter<E: serde::de::Error>(&mut self) -> Result<(), E> {
        if self.depth >= DEPTH_MAX { Err(self.reader.fail(BodyError::TooDeep)) } else { Ok(()) }
    }

    /// A scalar, or something empty.
    fn value<E: serde::de::Error>(self, value: Value<'_>) -> Result<(), E> {
        match self.place {
            Place::Elsewhere => return Ok(()),
            Place::Root if matches!(value, Value::Null | Value::Composite) => return Ok(()),
            Place::Root => return Err(self.reader.fail(BodyError::Member("`params` is neither an object nor a list"))),
            Place::Member | Place::Element => {}
        }
        let Reader { arguments: names, call, pointer, .. } = self.reader;
        let is_member = self.place == Place::Member;
        if let (Value::Text(text), true) = (&value, is_member) {
            let named =
                [("/name", &mut call.name), ("/uri", &mut call.uri), (PROTOCOL_VERSION, &mut call.protocol_version)];
            if let Some((_, place)) = named.into_iter().find(|(at, _)| pointer.is(at)) {
                *place = Some(text.as_ref().to_owned());
            }
        }
        if pointer.is(ARGUMENTS) && !matches!(value, Value::Null | Value::Composite) {
            call.has_odd_arguments = true;
        }
        if names.is_empty() {
            return Ok(());
        }
        if let Some(name) = pointer.tool_argument(is_member && self.level == 2) {
            call.of_tool.add(name, names, &value);
        }
        call.of_params.add(pointer.argument(is_member && self.level == 1), names, &value);
        Ok(())
    }
}

impl Arguments {
    fn add(&mut self, name: ArgumentName<'_>, names: &ArgumentNames<'_>, value: &Value<'_>) {
        let name = match name {
            ArgumentName::Whole(name) if names.contains(&name) => name,
            ArgumentName::Whole(_) => return,
            // It is there, for a caveat that speaks of every argument. One that names it asks for a fact that there is not.
            ArgumentName::TooLong(start) if names.are_all() => return self.not_stated(start),
            ArgumentName::TooLong(_) => return,
        };
        let fact = match value {
            Value::Text(text) if text.len() <= TEXT_BYTES_MAX => ArgValue::Text(text.as_ref().to_owned()),
            Value::Integer(number) => ArgValue::Integer(*number),
            Value::Bool(truth) => ArgValue::Bool(*truth),
            Value::Null | Value::Number | Value::Text(_) | Value::Composite => return self.not_stated(&name),
        };
        // One more than there may be is enough to refuse the call.
        if self.stated.len() <= ARGUMENTS_MAX {
            self.stated.push((name.into_owned(), fact));
        }
    }

    fn not_stated(&mut self, name: &str) {
        self.unstated.get_or_insert_with(|| quoted(name));
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.enter()?;
        let mut names = Names::default();
        let here = self.reader.pointer.end();
        let mut is_empty = true;
        while let Some(name) = self.reader.name(&mut map, &mut names)? {
            is_empty = false;
            self.reader.pointer.enter(&name);
            map.next_value_seed(self.below(Place::Member))?;
            self.reader.pointer.return_to(here);
        }
        if is_empty { self.value(Value::Composite) } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        self.enter()?;
        if self.place == Place::Member && self.reader.pointer.is(ARGUMENTS) {
            self.reader.call.has_odd_arguments = true;
        }
        let here = self.reader.pointer.end();
        let mut number = 0_usize;
        loop {
            self.reader.pointer.enter_element(number);
            let element = elements.next_element_seed(self.below(Place::Element))?;
            self.reader.pointer.return_to(here);
            if element.is_none() {
                break;
            }
            number += 1;
        }
        if number == 0 { self.value(Value::Composite) } else { Ok(()) }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.value(Value::Null)
    }
    fn visit_bool<E: serde::de::Error>(self, truth: bool) -> Result<(), E> {
        self.value(Value::Bool(truth))
    }
    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        self.value(whole(number))
    }
    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        self.value(i64::try_from(number).map_or(Value::Number, whole))
    }
    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.value(Value::Number)
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.reader.text(text)?;
        self.value(Value::Text(Cow::Borrowed(text)))
    }
}

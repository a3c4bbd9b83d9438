//! Which parameters of a query a token's caveats read, and which other spellings some service takes for them.
//!
//! A caveat compares a parameter's name as it stands, and a service reads it through its framework's eyes: PHP takes
//! `user.id`, `user id` and `user[id` for `user_id`, and cuts `user_id[]` at the bracket; ASP.NET does not look at case; Rack and
//! `qs` take off brackets in front. A second spelling beside the one that a caveat permits would be a second value that
//! nobody checked. So what folds to a name that a caveat reads, without being it, is refused; what folds to no such name passes.
//!
//! A name is a place: its base, and what stands in brackets behind it. Two names meet where one's place is the other's or
//! holds it: `page` holds `page[size]`, while `page[number]` and `page[size]` lie beside each other.

use super::facts::MessageFact;
use super::plan::{PlannedCheck, PlannedQuery, Source, TokenFact};
use super::program::{Binary, Op, Query, Term, Value};
use crate::message::{QueryError, QueryFacts};

/// Most characters of a name that a refusal quotes.
const QUOTED_CHARS_MAX: usize = 64;

/// The names of parameters that a token's checks read.
#[derive(Debug, Default)]
pub(crate) struct QueryNames {
    /// Whether some check reads parameters by whatever name they have.
    any: bool,
    /// By base, each name once for every way to read it.
    named: Box<[(Place, Box<str>)]>,
}

impl QueryNames {
    /// What these checks read: names as they stand, and of variables what they are compared with.
    pub(super) fn of(checks: &[PlannedCheck], facts: &[TokenFact]) -> Self {
        let mut reader = Reader { facts, any: false, names: Vec::new() };
        for check in checks {
            for (plan, query) in check.queries.iter().zip(&check.check.alternatives) {
                reader.read(plan, query);
            }
        }
        let Reader { any, mut names, .. } = reader;
        names.sort_unstable();
        names.dedup();
        let places = |name: &str| places(name).into_iter().map(|place| (place, name.into())).collect::<Vec<_>>();
        let mut named: Vec<_> = names.into_iter().flat_map(places).collect();
        named.sort_unstable();
        Self { any, named: named.into() }
    }

    /// Refuses a query in which some service would find a name that a caveat reads where no caveat looks for it.
    ///
    /// # Errors
    /// [`QueryError::Imitation`].
    pub(crate) fn refuse_imitations(&self, facts: &QueryFacts<'_>) -> Result<(), QueryError> {
        let mut seen: Vec<(Place, &str, usize)> = Vec::new();
        for (at, (name, _)) in facts.iter().enumerate() {
            for place in places(name) {
                if let Some(read) = self.meets(&place, name) {
                    return Err(QueryError::Imitation { parameter: at + 1, of: quoted(read) });
                }
                if self.any {
                    seen.push((place, name, at + 1));
                }
            }
        }
        seen.sort_unstable();
        for group in seen.chunk_by(|(a, ..), (b, ..)| a.base == b.base) {
            for (number, (place, name, at)) in group.iter().enumerate() {
                let mut others = group[..number].iter().filter(|(_, other, _)| other != name);
                if let Some((.., other)) = others.find(|(other, ..)| other.meets(place)) {
                    return Err(QueryError::Alike { first: *at.min(other), second: *at.max(other) });
                }
            }
        }
        Ok(())
    }

    /// A name that some check reads and that is read for this one, without being it.
    fn meets(&self, place: &Place, name: &str) -> Option<&str> {
        let start = self.named.partition_point(|(read, _)| read.base < place.base);
        let same = self.named[start..].iter().take_while(|(read, _)| read.base == place.base);
        same.filter(|(read, it)| **it != *name && read.meets(place)).map(|(_, it)| &**it).next()
    }
}

/// What a query's checks read.
struct Reader<'c> {
    facts: &'c [TokenFact],
    any: bool,
    names: Vec<&'c str>,
}

impl<'c> Reader<'c> {
    fn read(&mut self, plan: &'c PlannedQuery, query: &'c Query) {
        let planned = plan.predicates.iter().zip(&query.predicates);
        for (_, predicate) in planned.filter(|(it, _)| matches!(it.source, Source::Message(MessageFact::Query))) {
            match predicate.terms.first() {
                Some(Term::Value(value)) => self.names.extend(texts(value)),
                Some(Term::Variable(variable)) => {
                    self.any = true;
                    self.read_compared(*variable, query);
                    self.read_joined(*variable, plan, query);
                }
                None => {}
            }
        }
    }

    /// The literals that the name is said to be, or not to be.
    fn read_compared(&mut self, variable: usize, query: &'c Query) {
        for expression in &query.expressions {
            for ops in expression.ops.windows(3) {
                let value = match ops {
                    [Op::Push(Term::Variable(it)), Op::Push(Term::Value(value)), operator]
                    | [Op::Push(Term::Value(value)), Op::Push(Term::Variable(it)), operator]
                        if *it == variable && compares(operator, value) =>
                    {
                        value
                    }
                    _ => continue,
                };
                self.names.extend(texts(value));
            }
        }
    }

    /// The facts of the token that the name is looked up in.
    fn read_joined(&mut self, variable: usize, plan: &'c PlannedQuery, query: &'c Query) {
        for (planned, predicate) in plan.predicates.iter().zip(&query.predicates) {
            let Source::Token(numbers) = &planned.source else { continue };
            let places = predicate.terms.iter().enumerate().filter(|(_, term)| **term == Term::Variable(variable));
            for (place, _) in places {
                let facts = self.facts;
                self.names.extend(numbers.iter().flat_map(|number| texts(&facts[*number].fact.values[place])));
            }
        }
    }
}

/// Whether an operator asks if a name is this value, or among it.
fn compares(operator: &Op, value: &Value) -> bool {
    match operator {
        Op::Binary(Binary::Equal | Binary::NotEqual | Binary::LenientEqual | Binary::LenientNotEqual) => true,
        Op::Binary(Binary::Contains) => matches!(value, Value::Set(_)),
        _ => false,
    }
}

/// A text, or the texts of a set.
fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let values = match value {
        Value::Set(members) => &**members,
        value => std::slice::from_ref(value),
    };
    values.iter().filter_map(|value| match value {
        Value::Text(text) => Some(&**text),
        _ => None,
    })
}

/// What a name designates to some service.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    base: Box<str>,
    inside: Box<[Box<str>]>,
}

impl Place {
    fn of(name: &str) -> Self {
        // A bracket that nobody closes is none: PHP takes it for `_`.
        let (base, brackets) = match name.split_once('[') {
            Some((base, rest)) if rest.contains(']') => (base, rest),
            _ => (name, ""),
        };
        let base = base.trim_end_matches(']').replace([' ', '.', '+', '['], "_");
        let closed = brackets.split('[').filter_map(|part| part.split_once(']').map(|(inside, _)| inside));
        let quotes = |c: char| c.is_whitespace() || matches!(c, '\'' | '"');
        let inside = closed.map(|inside| without_case(inside.trim_matches(quotes)));
        Self { base: without_case(&base), inside: inside.collect() }
    }

    /// Whether one is the other, or holds it. What an empty bracket stands for depends on what was said before.
    fn meets(&self, other: &Self) -> bool {
        let mut pairs = self.inside.iter().zip(&other.inside);
        self.base == other.base && pairs.all(|(a, b)| a == b || a.is_empty() || b.is_empty())
    }
}

/// Every place that a name is read for. Some drop the spaces at its end, and some take them for a part of it.
fn places(name: &str) -> Vec<Place> {
    let led = |c: char| c.is_whitespace() || matches!(c, '+' | '?' | '[' | ']' | '\u{feff}');
    let name = name.trim_start_matches(led);
    let cut = name.trim_end_matches(|c: char| c.is_whitespace() || c == '+');
    let mut places = vec![Place::of(name)];
    if cut.len() < name.len() {
        places.push(Place::of(cut));
    }
    places
}

fn without_case(text: &str) -> Box<str> {
    if text.is_ascii() {
        return text.to_ascii_lowercase().into();
    }
    text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect::<String>().into()
}

fn quoted(name: &str) -> Box<str> {
    name.chars().take(QUOTED_CHARS_MAX).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::super::testing::plan;
    use super::*;
    use crate::message::query_facts;

    fn asked(authority: &str, query: &str) -> Result<(), QueryError> {
        let plan = plan(authority);
        query_facts(query).and_then(|facts| plan.query_names().refuse_imitations(&facts))
    }

    fn imitates(parameter: usize, of: &str) -> Result<(), QueryError> {
        Err(QueryError::Imitation { parameter, of: of.into() })
    }

    const NAMED: &str = "check all query(\"user_id\", $v), $v === \"7\";";

    /// What PHP, `qs`, Rack and ASP.NET read as `user_id`, beside the one that the caveat was decided on.
    #[test]
    fn another_spelling_of_a_name_that_a_caveat_reads_is_refused() {
        for other in [
            "user.id",
            "user+id",
            "user%20id",
            "user%2Bid",
            "user%5Bid",
            "user[id",
            "user_id[]",
            "user_id%5B%5D",
            "user_id[0]",
            "user_id[x][y]",
            "%20user_id",
            "+user_id",
            "%2Buser_id",
            "%C2%A0user_id",
            "user_id+",
            "USER_ID",
            "User_Id",
            "u%C5%BFer_id",
            "[user_id]",
            "[]user_id",
            "user_id]",
            "?user_id",
            "%EF%BB%BFuser_id",
            "%20USER.ID[]",
        ] {
            assert_eq!(asked(NAMED, &format!("user_id=7&{other}=8")), imitates(2, "user_id"), "{other}");
            assert_eq!(asked(NAMED, &format!("{other}=8")), imitates(1, "user_id"), "{other}");
        }
        for other in
            ["user_id", "user-id", "userid", "user_ids", "_user_id", "user_id_", "user", "user[name]", "x[user_id]"]
        {
            assert_eq!(asked(NAMED, &format!("user_id=7&{other}=8")), Ok(()), "{other}");
        }
    }

    #[test]
    fn a_name_in_brackets_meets_what_holds_it_and_no_sibling() {
        let named = "check if query(\"page[number]\", \"1\");";
        for other in
            ["page", "Page[Number]", "page[number][]", "page[number]x", "page[]", "page[%20number]", "page['number']"]
        {
            assert_eq!(asked(named, &format!("{other}=2")), imitates(1, "page[number]"), "{other}");
        }
        for other in ["page[number]", "page[size]", "pages", "page_number", "number"] {
            assert_eq!(asked(named, &format!("{other}=2")), Ok(()), "{other}");
        }
        assert_eq!(asked("check if query(\"user.id\", \"7\");", "user.id=7&user_id=8"), imitates(2, "user.id"));
    }

    #[test]
    fn what_folds_together_where_no_caveat_reads_it_passes() {
        let tenant = "check all query(\"tenant\", $v), $v === \"7\";";
        assert_eq!(asked(tenant, "tenant=7&page[number]=1&page[size]=10&a.b=1&a_b=2&A_B=3"), Ok(()));
        assert_eq!(asked("check if path(\"/\");", "a.b=1&a_b=2"), Ok(()));
    }

    #[test]
    fn where_names_are_read_by_a_variable_no_two_of_them_are_alike() {
        let any = "check if query($n, $v), $v === \"1\";";
        let alike = |first, second| Err(QueryError::Alike { first, second });
        assert_eq!(asked(any, "a.b=1&c=2&a_b=3"), alike(1, 3));
        assert_eq!(asked(any, "c=2&ID=1&id=2"), alike(2, 3));
        assert_eq!(asked(any, "page=1&page[size]=2"), alike(1, 2));
        assert_eq!(asked(any, "page[number]=1&page[size]=2&a=1&a=2"), Ok(()));
    }

    /// A check that forbids a name is passed by a message that spells it otherwise, unless the names that it compares count.
    #[test]
    fn names_that_a_variable_is_compared_with_are_read() {
        for check in [
            "check all query($n, $v), $n !== \"admin\";",
            "check all query($n, $v), \"admin\" != $n;",
            "check all query($n, $v), !{\"admin\", \"root\"}.contains($n);",
            "forbidden(\"admin\"); check if query($n, $v), forbidden($n);",
        ] {
            for other in ["ADMIN", "admin[]", "%20admin"] {
                assert_eq!(asked(check, &format!("{other}=1")), imitates(1, "admin"), "{check} {other}");
            }
            assert_eq!(asked(check, "admin=1&page=2"), Ok(()), "{check}");
        }
        let begins = "check all query($n, $v), $n.starts_with(\"filter\"), $v !== \"ID\";";
        assert_eq!(asked(begins, "filter[id]=1&id=2"), Ok(()), "what it begins with, or its value, is no name");
    }

    #[test]
    fn control_characters_in_names_are_refused_wherever_a_caveat_reads_the_query() {
        for name in ["user_id%00", "%00", "x%00", "a%0Ab", "%7F", "%C2%85"] {
            assert_eq!(
                asked(NAMED, &format!("user_id=7&{name}=8")),
                Err(QueryError::Control { parameter: 2 }),
                "{name}"
            );
        }
        assert_eq!(asked(NAMED, "user_id=%00"), Ok(()), "a value is the service's");
    }

    #[test]
    fn a_refusal_quotes_the_caveat_and_not_the_message() {
        let error = asked(NAMED, "SECRET=1&User_ID=8").unwrap_err().to_string();
        assert!(
            error.contains("parameter 2") && error.contains("\"user_id\"") && !error.contains("User_ID"),
            "{error}"
        );
        let long = format!("check if query(\"{}\", \"1\");", "a".repeat(500));
        let error = asked(&long, &format!("{}=1", "A".repeat(500))).unwrap_err().to_string();
        assert!(error.len() < 300, "{error}");
    }
}

//! The OpenAPI document: a file beside this one, served as it is. It needs a capability like everything else here: the
//! contract lets only the health checks pass without one.

/// The document.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use postern_capabilities::caveat::Caveat;
    use serde_json::Value;

    use super::DOCUMENT;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    /// Every `$ref` points at something that is there.
    fn references<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(members) => members.iter().for_each(|member| references(member, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_resolves() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_operation_says_what_it_is_and_what_it_answers() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
                let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
                assert!(!id.is_empty() && ids.insert(id), "{method} {path}");
                assert!(operation["summary"].is_string(), "{method} {path}");
                assert!(!operation["responses"].as_object().unwrap().is_empty(), "{method} {path}");
                let open = operation["security"].as_array().is_some_and(Vec::is_empty);
                assert_eq!(open, path.starts_with("/health/"), "{method} {path}");
            }
        }
        assert_eq!(ids.len(), 13);
    }

    /// The document names exactly the caveats that the code reads.
    #[test]
    fn the_caveats_are_those_of_the_command_line() {
        let document = document();
        let named: BTreeSet<_> =
            document["components"]["schemas"]["Caveats"]["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(named, Caveat::FLAGS.iter().map(ToString::to_string).collect());
    }
}

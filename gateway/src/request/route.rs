//! Which resource a message is for, and which path below it.
//!
//! Routing decides on the canonical path alone: exact host first, then the longest prefix that ends at a segment
//! boundary. The table is immutable; a reload builds a new one and swaps it whole.

use std::rc::Rc;

use hashbrown::HashMap;

use super::resource::Resource;

/// Host and prefix to resource.
pub struct Routes {
    hosts: HashMap<Box<str>, Prefixes, foldhash::fast::RandomState>,
    any_host: Prefixes,
    resources: Vec<Rc<Resource>>,
    passes_encoded_slash: bool,
}

type Prefixes = HashMap<Box<str>, Rc<Resource>, foldhash::fast::RandomState>;

/// A resource, and the message's path on it.
pub struct Found<'r, 'p> {
    /// The resource.
    pub resource: &'r Rc<Resource>,
    /// The path below the resource: what caveats see. Never empty.
    pub path: &'p str,
}

impl Routes {
    /// Builds the table. Two resources with one host and prefix are refused by the configuration before they come here.
    pub fn new(resources: Vec<Rc<Resource>>) -> Self {
        let mut routes = Self {
            hosts: HashMap::default(),
            any_host: HashMap::default(),
            passes_encoded_slash: resources.iter().any(|r| r.passes_encoded_slash),
            resources: Vec::new(),
        };
        for resource in &resources {
            let prefixes = match &resource.host {
                Some(host) => routes.hosts.entry(host.clone()).or_default(),
                None => &mut routes.any_host,
            };
            // Kept without the trailing slash, so that "/" is "" and a segment boundary is what comes after it.
            let prefix = resource.prefix.trim_end_matches('/');
            prefixes.insert(prefix.into(), Rc::clone(resource));
        }
        routes.resources = resources;
        routes
    }

    /// All resources, in the configuration's order.
    pub fn resources(&self) -> &[Rc<Resource>] {
        &self.resources
    }

    /// Whether any resource takes an escaped slash. Then every path is read that way first, and a resource that does
    /// not take it refuses after the capability was checked: nobody without a right can tell the two apart.
    pub fn passes_encoded_slash(&self) -> bool {
        self.passes_encoded_slash
    }

    /// Finds the resource for a host (lower case, no port) and a canonical path.
    pub fn find<'p>(&self, host: &str, path: &'p str) -> Option<Found<'_, 'p>> {
        self.hosts.get(host).and_then(|prefixes| longest(prefixes, path)).or_else(|| longest(&self.any_host, path))
    }
}

/// The longest prefix at a segment boundary: tries the whole path, then cuts a segment at a time.
fn longest<'r, 'p>(prefixes: &'r Prefixes, path: &'p str) -> Option<Found<'r, 'p>> {
    if prefixes.is_empty() {
        return None;
    }
    let mut end = path.len();
    loop {
        if let Some(resource) = prefixes.get(&path[..end]) {
            let rest = &path[end..];
            return Some(Found { resource, path: if rest.is_empty() { "/" } else { rest } });
        }
        end = path[..end].rfind('/')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(entries: &[(&str, Option<&str>, &str)]) -> Routes {
        Routes::new(
            entries.iter().map(|(name, host, prefix)| Rc::new(Resource::for_tests(name, *host, prefix))).collect(),
        )
    }

    fn found(routes: &Routes, host: &str, path: &str) -> Option<(String, String)> {
        routes.find(host, path).map(|f| (f.resource.name.as_str().to_owned(), f.path.to_owned()))
    }

    fn is(name: &str, path: &str) -> Option<(String, String)> {
        Some((name.to_owned(), path.to_owned()))
    }

    #[test]
    fn a_prefix_ends_at_a_segment_boundary() {
        let routes = routes(&[("orders", None, "/orders")]);
        assert_eq!(found(&routes, "h", "/orders"), is("orders", "/"));
        assert_eq!(found(&routes, "h", "/orders/"), is("orders", "/"));
        assert_eq!(found(&routes, "h", "/orders/42"), is("orders", "/42"));
        assert_eq!(found(&routes, "h", "/orders2"), None);
        assert_eq!(found(&routes, "h", "/"), None);
    }

    #[test]
    fn the_longest_prefix_wins() {
        let routes = routes(&[("root", None, "/"), ("api", None, "/api"), ("deep", None, "/api/v1/deep")]);
        assert_eq!(found(&routes, "h", "/"), is("root", "/"));
        assert_eq!(found(&routes, "h", "/other/x"), is("root", "/other/x"));
        assert_eq!(found(&routes, "h", "/api/v1"), is("api", "/v1"));
        assert_eq!(found(&routes, "h", "/api/v1/deep/er"), is("deep", "/er"));
        assert_eq!(found(&routes, "h", "/api/v1/deeper"), is("api", "/v1/deeper"));
    }

    #[test]
    fn an_exact_host_comes_before_any_host() {
        let routes = routes(&[("all", None, "/"), ("shop", Some("shop.example"), "/a")]);
        assert_eq!(found(&routes, "shop.example", "/a/b"), is("shop", "/b"));
        assert_eq!(found(&routes, "shop.example", "/c"), is("all", "/c"));
        assert_eq!(found(&routes, "other.example", "/a/b"), is("all", "/a/b"));
    }
}

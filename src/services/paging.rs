//! Pages of a list, as GitHub has them.

use axum::http::{HeaderValue, Uri};

/// Which part of a list is asked for; what is no number counts as not given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// From 1.
    pub(super) number: usize,
    pub(super) size: usize,
}

impl Page {
    /// `page` and `per_page` of a query.
    pub(super) fn of(number: Option<&str>, size: Option<&str>) -> Self {
        let read = |text: Option<&str>| text.and_then(|text| text.parse::<usize>().ok());
        Self { number: read(number).unwrap_or(1).clamp(1, 1_000_000), size: read(size).unwrap_or(30).clamp(1, 100) }
    }

    pub(super) fn skip(self) -> usize {
        (self.number - 1) * self.size
    }
}

/// The `Link` header that leads to other pages of the list that was asked for at `uri`: their numbers, and what they are to
/// this one. `base`: the address of the server as the client knows it.
pub(super) fn link(base: &str, uri: &Uri, pages: &[(usize, &str)]) -> Option<HeaderValue> {
    let rest: String = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("page="))
        .flat_map(|pair| [pair, "&"])
        .collect();
    let one =
        |(page, relation): &(usize, &str)| format!("<{base}{}?{rest}page={page}>; rel=\"{relation}\"", uri.path());
    let all: Vec<String> = pages.iter().map(one).collect();
    HeaderValue::from_str(&all.join(", ")).ok().filter(|_| !pages.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_counts_as_not_given() {
        for (number, size, expected) in [
            (None, None, (1, 30)),
            (Some("0"), Some("0"), (1, 1)),
            (Some("3"), Some("500"), (3, 100)),
            (Some("abc"), Some("-1"), (1, 30)),
            (Some("99999999999999999999999"), Some(""), (1, 30)),
        ] {
            let page = Page::of(number, size);
            assert_eq!((page.number, page.size), expected, "{number:?} {size:?}");
        }
        assert_eq!(Page { number: 3, size: 10 }.skip(), 20);
    }

    #[test]
    fn other_pages_keep_the_rest_of_the_question() {
        let uri = "/api/v3/repos/o/r/tags?page=2&per_page=5&q=a%20b".parse().unwrap();
        let link = link("https://ci.lan", &uri, &[(3, "next"), (9, "last")]).unwrap();
        let address = "https://ci.lan/api/v3/repos/o/r/tags?per_page=5&q=a%20b&page";
        assert_eq!(link, format!("<{address}=3>; rel=\"next\", <{address}=9>; rel=\"last\""));
        assert_eq!(super::link("https://ci.lan", &uri, &[]), None);
    }
}

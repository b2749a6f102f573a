//! Markdown that jobs wrote (`GITHUB_STEP_SUMMARY`) as HTML that is safe in a page: whatever a job says, nothing in it
//! runs, nothing is fetched from elsewhere, and nothing leaves its box.

use std::borrow::Cow;
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};
use pulldown_cmark::{Options, Parser};

/// Text of one summary that is shown; the file itself has all of it.
const SHOWN: usize = 128 * 1024;

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut cleaner = Builder::default();
    cleaner
        .add_tags(["details", "summary"])
        .add_tag_attributes("details", ["open"])
        .add_url_schemes(["data"])
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        // Pictures from elsewhere would tell others who reads this page; links may lead anywhere on the web.
        .attribute_filter(|element, attribute, value| match (element, attribute) {
            ("img", "src") => value.starts_with("data:image/").then_some(Cow::Borrowed(value)),
            (_, "href" | "src" | "cite") if value.trim_start().to_ascii_lowercase().starts_with("data:") => None,
            _ => Some(Cow::Borrowed(value)),
        });
    cleaner
});

/// Renders GitHub's dialect: tables, task lists, strike-through, and the HTML that `core.summary` writes.
#[must_use]
pub(super) fn html(text: &str) -> String {
    let cut = text.floor_char_boundary(SHOWN);
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut rendered = String::with_capacity(cut * 2);
    pulldown_cmark::html::push_html(&mut rendered, Parser::new_ext(&text[..cut], options));
    let mut clean = CLEANER.clean(&rendered).to_string();
    if cut < text.len() {
        clean.push_str("<p><em>This summary is longer than what is shown here.</em></p>");
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::html;

    #[test]
    fn the_dialect_is_githubs() {
        let page = html(
            "# Tests\n\n| a | b |\n|---|---|\n| 1 | ~~2~~ |\n\n<details open><summary>More</summary>\n\n**x**\n\n</details>\n",
        );
        for part in ["<h1>Tests</h1>", "<td>1</td>", "<del>2</del>", "<details open=\"\">", "<strong>x</strong>"] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }

    #[test]
    fn nothing_runs_nothing_is_fetched() {
        for hostile in [
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "![p](https://example.com/track.png)",
            "[x](javascript:alert(1))",
            "<a href=\"data:text/html,x\">x</a>",
            "<iframe src=\"https://example.com\"></iframe>",
            "<style>body{display:none}</style>",
            "<form action=\"/x\"><button>y</button></form>",
            "<div style=\"position:fixed\" class=\"card\" id=\"top\">x</div></main>",
        ] {
            let page = html(hostile);
            for part in [
                "<script",
                "onerror",
                "src=\"http",
                "javascript:",
                "data:text",
                "<iframe",
                "<style",
                "<form",
                "style=",
                "class=",
                "id=",
                "</main",
            ] {
                assert!(!page.contains(part), "{part} in {page}");
            }
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        let page = html(&"ä".repeat(200_000));
        assert!(page.len() < 300_000 && page.contains("longer than what is shown"));
    }
}

//! The stylesheet, the script and the glyphs, inside the binary. Addresses carry a digest, so browsers keep them for good.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

const STYLE: &str = include_str!("assets/style.css");
const SCRIPT: &str = include_str!("assets/live.js");
const ICON: &str = include_str!("assets/icon.svg");

/// The glyphs of all states, placed once in every page.
pub(super) const SPRITE: &str = include_str!("assets/sprite.svg");

static STYLE_NAME: LazyLock<String> = LazyLock::new(|| name(STYLE, "css"));
static SCRIPT_NAME: LazyLock<String> = LazyLock::new(|| name(SCRIPT, "js"));

fn name(text: &str, ending: &str) -> String {
    format!("{:013x}.{ending}", crate::id::stable_id(&[text]))
}

/// Where the stylesheet is.
pub(super) fn style_path() -> String {
    format!("/assets/{}", *STYLE_NAME)
}

/// Where the script is.
pub(super) fn script_path() -> String {
    format!("/assets/{}", *SCRIPT_NAME)
}

pub(super) async fn serve(Path(file): Path<String>) -> Response {
    let (kind, text, keep) = match file.as_str() {
        file if file == *STYLE_NAME => ("text/css; charset=utf-8", STYLE, true),
        file if file == *SCRIPT_NAME => ("text/javascript; charset=utf-8", SCRIPT, true),
        "icon.svg" => ("image/svg+xml", ICON, false),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let keep = if keep { "public, max-age=31536000, immutable" } else { "public, max-age=3600" };
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
    response
}

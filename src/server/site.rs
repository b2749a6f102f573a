//! The pages' addresses: who may see them, and what all of them share. What each shows is in the files beside.

mod hosts;
mod jobs;
mod operations;
mod runs;
mod scripts;
mod session;
mod settings;
mod workflows;

use askama::Template;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderValue, StatusCode, Uri, header};

use super::app::{App, Asked, Caller, Fault};
use super::auth::{Role, Via};
use super::pages::{self, Chrome};
use super::view::HostView;
use super::{assets, form};

/// All pages.
pub(super) fn routes(app: &App) -> Router<App> {
    let run = "/{owner}/{name}/actions/runs/{id}";
    Router::new()
        .route("/", get(runs::overview))
        .route("/runs", get(runs::all))
        .route("/workflows", get(workflows::all))
        .route("/queue", get(operations::queue))
        .route("/queue/{deed}", post(operations::change_queue))
        .route("/hosts", get(hosts::hosts))
        .route("/hosts/add", get(hosts::form).post(hosts::add))
        .route("/hosts/test", post(hosts::test))
        .route("/hosts/{deed}", post(hosts::change_host))
        .route("/schedules", get(operations::schedules))
        .route("/deliveries", get(operations::deliveries))
        .route("/deliveries/{number}", get(operations::delivery))
        .route("/deliveries/{number}/replay", post(operations::replay))
        .route("/outbox/{letter}/{deed}", post(operations::change_letter))
        .route("/scripts", get(scripts::page).post(scripts::run))
        .route("/settings", get(settings::all))
        .route("/settings/secrets", post(settings::global_secret))
        .route("/settings/variables", post(settings::global_variable))
        .route("/tokens", get(settings::tokens).post(settings::create_token))
        .route("/tokens/revoke", post(settings::revoke_token))
        .route("/audit", get(settings::audit))
        .route("/share/{key}", get(settings::shared))
        .route("/login", get(session::form).post(session::sign_in))
        .route("/login/github", get(session::to_github))
        .route("/login/github/callback", get(session::from_github))
        .route("/logout", post(session::sign_out))
        .route("/{owner}/{name}", get(runs::of_repository))
        .route("/{owner}/{name}/actions", get(runs::of_repository))
        .route("/{owner}/{name}/settings", get(settings::of_repository))
        .route("/{owner}/{name}/settings/secrets", post(settings::secret))
        .route("/{owner}/{name}/settings/variables", post(settings::variable))
        .route("/{owner}/{name}/settings/environments", post(settings::environment))
        .route("/{owner}/{name}/actions/workflows/{file}", get(workflows::one))
        .route("/{owner}/{name}/actions/workflows/{file}/dispatch", post(workflows::dispatch))
        .route("/{owner}/{name}/actions/workflows/{file}/enable", post(workflows::enable))
        .route("/{owner}/{name}/actions/workflows/{file}/disable", post(workflows::disable))
        .route("/{owner}/{name}/actions/workflows/{file}/badge.svg", get(workflows::badge))
        .route(run, get(runs::latest))
        .route(&format!("{run}/attempts/{{attempt}}"), get(runs::attempt))
        .route(&format!("{run}/cancel"), post(runs::cancel))
        .route(&format!("{run}/approve"), post(runs::release))
        .route(&format!("{run}/review"), post(runs::review))
        .route(&format!("{run}/share"), post(settings::share))
        .route(&format!("{run}/rerun"), post(runs::rerun))
        .route(&format!("{run}/rerun-failed"), post(runs::rerun_failed))
        .route(&format!("{run}/job/{{job}}"), get(jobs::page))
        .route(&format!("{run}/job/{{job}}/rerun"), post(jobs::rerun))
        .route(&format!("{run}/job/{{job}}/release"), post(jobs::release))
        .route(&format!("{run}/job/{{job}}/live"), get(jobs::live))
        .route(&format!("{run}/job/{{job}}/steps/{{step}}"), get(jobs::step))
        .fallback(|visitor: Visitor| async move { visitor.fault(&Fault::NotFound) })
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .route("/assets/{file}", get(assets::serve))
}

/// Headers of every page. Nothing is fetched from elsewhere, nothing is framed, no markup in a log can do anything.
async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    app.metrics.answered(response.status().as_u16());
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("private, no-cache"));
    response
}

/// Someone who looks at a page.
struct Visitor {
    caller: Caller,
    uri: Uri,
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let uri = Asked::of(parts);
        match Caller::recognise(app, parts) {
            Ok(caller) => Ok(Self { caller, uri }),
            Err(fault) => Err((fault.status(), fault.message()).into_response()),
        }
    }
}

impl Visitor {
    fn chrome(&self, here: &'static str) -> Chrome {
        let client = &self.caller.client;
        Chrome {
            now: self.caller.now,
            here,
            user: (client.role > Role::Nobody).then(|| client.name.clone()),
            role: client.role,
            session: client.via == Via::Session,
            csrf: self.caller.csrf.clone(),
            live: client.role > Role::Nobody || matches!(client.via, Via::Share(_)),
            live_query: String::new(),
        }
    }

    /// A page, or what stands in its way. Who is not signed in is led to the form and back.
    fn show(&self, page: Result<impl Template, Fault>) -> Response {
        match page {
            Ok(page) => html(StatusCode::OK, &page),
            Err(fault) => self.fault(&fault),
        }
    }

    fn fault(&self, fault: &Fault) -> Response {
        if matches!(fault, Fault::Unauthorized) {
            let next = form::encode(self.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str));
            return see_other(&format!("/login?next={next}"));
        }
        let (heading, text) = match fault {
            Fault::NotFound => ("Not here", "There is nothing at this address, or you may not see it.".to_owned()),
            Fault::Forbidden(text) => ("Not allowed", text.clone()),
            other => ("That did not work", other.message()),
        };
        self.message(fault.status(), heading, &text)
    }

    /// A page that says one thing.
    fn message(&self, status: StatusCode, heading: &str, text: &str) -> Response {
        let chrome = Chrome { live: false, ..self.chrome("") };
        html(status, &pages::Message { chrome, heading: heading.to_owned(), text: text.to_owned() })
    }

    fn may_see(&self) -> Result<(), Fault> {
        self.caller.at_least(Role::Viewer)
    }

    /// The hosts; what runs in a slot belongs to its repository.
    async fn hosts(&self, app: &App) -> Result<Vec<HostView>, Fault> {
        let client = &self.caller.client;
        let hosts = app.source.hosts(self.caller.now).await?.into_iter();
        Ok(hosts.map(|host| host.for_client(client.sees_all(), |repository| client.sees(repository))).collect())
    }
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => {
            let mut response = (status, text).into_response();
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => {
            log::error!(error:% = error; "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn see_other(to: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    if let Ok(to) = HeaderValue::from_str(to) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

/// A form that we made for this session, sent back by someone who may change something; otherwise nothing is done.
struct Sent {
    visitor: Visitor,
    pairs: Vec<(String, String)>,
}

impl FromRequest<App> for Sent {
    type Rejection = Response;

    async fn from_request(request: Request, app: &App) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let visitor = Visitor::from_request_parts(&mut parts, app).await?;
        let headers = parts.headers.clone();
        let body = Bytes::from_request(Request::from_parts(parts, body), app).await;
        let pairs = match body {
            Ok(body) => form::pairs(&String::from_utf8_lossy(&body)),
            Err(_) => return Err(visitor.fault(&Fault::TooLarge)),
        };
        let csrf = form::first(&pairs, "csrf").unwrap_or_default();
        match visitor.caller.at_least(Role::Operator) {
            Err(fault) => Err(visitor.fault(&fault)),
            Ok(()) if app.auth.csrf_is_good(&headers, csrf) => Ok(Self { visitor, pairs }),
            Ok(()) => Err(visitor.fault(&Fault::Forbidden(
                "This form is too old or not ours. Go back, reload the page and send it again.".to_owned(),
            ))),
        }
    }
}

impl Sent {
    fn caller(&self) -> &Caller {
        &self.visitor.caller
    }

    /// The first value of a field; empty when it was not sent.
    fn text(&self, name: &str) -> &str {
        form::first(&self.pairs, name).unwrap_or_default()
    }

    /// To where the deed can be seen, or why it was not done.
    fn back(&self, done: Result<String, Fault>) -> Response {
        match done {
            Ok(to) => see_other(&to),
            Err(fault) => self.visitor.fault(&fault),
        }
    }
}

/// Reads files beside the workers.
async fn beside<T: Send + 'static>(read: impl FnOnce() -> Result<T, Fault> + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

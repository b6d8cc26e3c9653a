//! `listen_view`: this hospital's own view of the log over plain HTTP, for peers that can reach it. Off by default: the promise is that
//! an agent opens no port. `GET /view` and nothing else; what is shown is signed, and public anyway.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Serves until the task is aborted.
///
/// # Errors
/// In words: the address cannot be used.
pub async fn serve(address: SocketAddr, view: watch::Receiver<Option<String>>) -> Result<JoinHandle<()>, String> {
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener =
        listener.map_err(|error| format!("cannot show a view on {address}: {error}; see gossip.listen_view"))?;
    let router = Router::new().route("/view", get(show)).with_state(view);
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the view is no longer shown");
        }
    }))
}

async fn show(State(view): State<watch::Receiver<Option<String>>>) -> Response {
    let Some(view) = view.borrow().clone() else { return StatusCode::NOT_FOUND.into_response() };
    let head = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (head, view).into_response()
}

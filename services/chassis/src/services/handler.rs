//! What answers the calls of one service, whatever it is made of.

use std::{
    any::Any,
    convert::Infallible,
    future::{poll_fn, ready},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service, StdError},
};

use crate::services::request_body::RequestBody;

/// A call in progress, to the head of its response.
pub(crate) type ResponseFuture = BoxFuture<Response<Body>, Infallible>;

/// A call that needs no service.
pub(crate) fn ready_response(response: Response<Body>) -> ResponseFuture {
    Box::pin(ready(Ok(response)))
}

/// A service of any type: what [`Services::layer`](crate::Services::layer) puts its layers around.
#[derive(Clone)]
pub struct Handler(Arc<dyn Fn(Request<RequestBody>) -> ResponseFuture + Send + Sync>);

impl Handler {
    pub(crate) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<RequestBody>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<StdError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError>,
    {
        Self(Arc::new(move |request| call(service.clone(), request)))
    }
}

impl std::fmt::Debug for Handler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handler")
    }
}

impl Service<Request<RequestBody>> for Handler {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> ResponseFuture {
        (self.0)(request)
    }
}

fn call<S, B>(mut service: S, request: Request<RequestBody>) -> ResponseFuture
where
    S: Service<Request<RequestBody>, Response = Response<B>> + Send + 'static,
    S::Error: Into<StdError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    // Most services are always ready, and need no future that waits for it.
    match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(())) => boxed(service.call(request)),
        Poll::Ready(Err(error)) => ready_response(failed(error)),
        Poll::Pending => Box::pin(async move {
            if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
                return Ok(failed(error));
            }
            boxed(service.call(request)).await
        }),
    }
}

fn failed(error: impl Into<StdError>) -> Response<Body> {
    Status::from_error(error.into()).into_http()
}

/// Boxes a response, unless it is boxed already, as tonic's are. What fails becomes a status.
fn boxed<B, E>(
    response: impl Future<Output = Result<Response<B>, E>> + Send + 'static,
) -> ResponseFuture
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
    E: Into<StdError>,
{
    let mut response = Some(response);
    let any: &mut dyn Any = &mut response;
    if let Some(boxed) = any.downcast_mut().and_then(Option::<ResponseFuture>::take) {
        return boxed;
    }
    Box::pin(async move {
        Ok(match response {
            Some(response) => match response.await {
                Ok(response) => response.map(Body::new),
                Err(error) => failed(error),
            },
            // Of a type that is taken above.
            None => failed("no response"),
        })
    })
}

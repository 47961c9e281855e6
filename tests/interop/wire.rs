//! The client's channel, with what tonic hides of a call: which messages are packed.

use std::task;

use bytes::Bytes;
use cli::{Channel, Failure};
use http::{Request, Response};
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, StdError},
};

use crate::{CommandLine, packing, unpacking};

/// A channel that heeds [`Pack`](packing::Pack) and gives [`Packed`](packing::Packed).
#[derive(Debug, Clone)]
pub(crate) struct Wire<S>(S);

impl Wire<Channel> {
    /// A connection of its own.
    pub(crate) fn to(command_line: &CommandLine) -> Result<Self, Failure> {
        let connection = &command_line.connection;
        let channel = connection.channel(&command_line.addr, "", &[])?;
        Ok(Self(channel))
    }
}

impl<S, B> Service<Request<Body>> for Wire<S>
where
    S: Service<Request<Body>, Response = Response<B>, Future: Send + 'static>,
    B: hyper::body::Body<Data = Bytes, Error: Into<StdError>> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> task::Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let body = packing::pack(&mut parts.headers, &mut parts.extensions, body);
        let answer = self.0.call(Request::from_parts(parts, body));
        Box::pin(async move {
            let (mut parts, body) = answer.await?.into_parts();
            let body = unpacking::watch(&mut parts.extensions, body);
            Ok(Response::from_parts(parts, body))
        })
    }
}

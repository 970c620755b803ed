//! The parts that every stream socket has: written once, so that they cannot differ.

#![forbid(unsafe_code)]

/// Methods of a stream with a field `io: Registered<$std>`. `$path` is its public path, for the
/// examples.
macro_rules! stream_methods {
    ($type:ident, $std:ty, $path:literal) => {
        /// Methods of every stream.
        impl $type {
            /// Registers a stream of the standard library with the current runtime.
            ///
            /// It is put into non-blocking mode, and must be connected.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# fn f(std_stream: ", stringify!($std), ") -> std::io::Result<()> {")]
            #[doc = concat!("let stream = ", $path, "::from_std(std_stream)?;")]
            /// # let _ = stream; Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// Where no runtime is entered or the runtime is closed, and what the system answers.
            pub fn from_std(stream: $std) -> std::io::Result<$type> {
                stream.set_nonblocking(true)?;
                Ok($type {
                    io: $crate::io::Registered::new(stream)?,
                })
            }

            /// Leaves the runtime: the stream as one of the standard library, still non-blocking.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// let std_stream = stream.into_std()?;
            /// std_stream.set_nonblocking(false)?;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// If the descriptor was closed or replaced behind the back of this type.
            pub fn into_std(self) -> std::io::Result<$std> {
                self.io.try_into_inner()
            }

            /// Reads into `buf`; zero means the end of the stream (or an empty `buf`).
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// let mut buf = [0; 1024];
            /// let n = stream.read(&mut buf).await?;
            /// println!("got {:?}", &buf[..n]);
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// What the system answers, and an error when the runtime of the socket is closed.
            ///
            /// # Cancel safety
            ///
            /// No data is lost when the future is dropped before it was ready.
            pub async fn read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.io
                    .transfer(heist_io::Direction::Read, buf.len(), |mut io| {
                        std::io::Read::read(&mut io, buf)
                    })
                    .await
            }

            /// Reads into several buffers, one after the other.
            ///
            /// # Examples
            ///
            /// ```no_run
            /// use std::io::IoSliceMut;
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// let (mut head, mut body) = ([0; 16], [0; 1024]);
            /// let mut bufs = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut body)];
            /// let n = stream.read_vectored(&mut bufs).await?;
            /// # let _ = n;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// As for [`read`](Self::read).
            ///
            /// # Cancel safety
            ///
            /// As for [`read`](Self::read).
            pub async fn read_vectored(
                &self,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                let len = bufs.iter().map(|buf| buf.len()).sum();
                self.io
                    .transfer(heist_io::Direction::Read, len, |mut io| {
                        std::io::Read::read_vectored(&mut io, bufs)
                    })
                    .await
            }

            /// Writes some of `buf`, and tells how much.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// let n = stream.write(b"hello").await?;
            /// # let _ = n;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// What the system answers, and an error when the runtime of the socket is closed.
            ///
            /// # Cancel safety
            ///
            /// Nothing was written when the future is dropped before it was ready.
            pub async fn write(&self, buf: &[u8]) -> std::io::Result<usize> {
                self.io
                    .transfer(heist_io::Direction::Write, buf.len(), |mut io| {
                        std::io::Write::write(&mut io, buf)
                    })
                    .await
            }

            /// Writes some of several buffers, one after the other, and tells how much.
            ///
            /// # Examples
            ///
            /// ```no_run
            /// use std::io::IoSlice;
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// let n = stream.write_vectored(&[IoSlice::new(b"head"), IoSlice::new(b"body")]).await?;
            /// # let _ = n;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// As for [`write`](Self::write).
            ///
            /// # Cancel safety
            ///
            /// As for [`write`](Self::write).
            pub async fn write_vectored(
                &self,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                let len = bufs.iter().map(|buf| buf.len()).sum();
                self.io
                    .transfer(heist_io::Direction::Write, len, |mut io| {
                        std::io::Write::write_vectored(&mut io, bufs)
                    })
                    .await
            }

            /// Writes all of `buf`.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// stream.write_all(b"hello").await?;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// As for [`write`](Self::write), and `WriteZero` if the system takes nothing any more.
            ///
            /// # Cancel safety
            ///
            /// Not cancel safe: a part may have been written, and how much is unknown.
            pub async fn write_all(&self, mut buf: &[u8]) -> std::io::Result<()> {
                while !buf.is_empty() {
                    match self.write(buf).await? {
                        0 => return Err(std::io::ErrorKind::WriteZero.into()),
                        n => buf = &buf[n..],
                    }
                }
                Ok(())
            }

            /// Waits until there may be something to read.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// let mut buf = [0; 1024];
            /// let n = loop {
            ///     stream.readable().await?;
            ///     match stream.try_read(&mut buf) {
            ///         Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            ///         done => break done?,
            ///     }
            /// };
            /// # let _ = n;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// When the runtime of the socket is closed.
            ///
            /// # Cancel safety
            ///
            /// Nothing is lost when the future is dropped.
            pub async fn readable(&self) -> std::io::Result<()> {
                self.io.ready(heist_io::Direction::Read).await.map(drop)
            }

            /// Waits until there may be room to write.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// stream.writable().await?;
            /// let n = stream.try_write(b"hello");
            /// # let _ = n;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// When the runtime of the socket is closed.
            ///
            /// # Cancel safety
            ///
            /// Nothing is lost when the future is dropped.
            pub async fn writable(&self) -> std::io::Result<()> {
                self.io.ready(heist_io::Direction::Write).await.map(drop)
            }

            /// Polls for something to read. Only the last caller's waker is kept.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// std::future::poll_fn(|cx| stream.poll_readable(cx)).await?;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// When the runtime of the socket is closed.
            pub fn poll_readable(
                &self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.io.poll_ready(heist_io::Direction::Read, cx)
            }

            /// Polls for room to write. Only the last caller's waker is kept.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// std::future::poll_fn(|cx| stream.poll_writable(cx)).await?;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// When the runtime of the socket is closed.
            pub fn poll_writable(
                &self,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                self.io.poll_ready(heist_io::Direction::Write, cx)
            }

            /// Reads what is there, without waiting.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// stream.readable().await?;
            /// let mut buf = [0; 1024];
            /// let n = stream.try_read(&mut buf)?;
            /// # let _ = n;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// `WouldBlock` where it would have to wait, also before the first event of a new
            /// socket; else as for [`read`](Self::read).
            pub fn try_read(&self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.io
                    .try_transfer(heist_io::Direction::Read, buf.len(), |mut io| {
                        std::io::Read::read(&mut io, buf)
                    })
            }

            /// Reads what is there into several buffers, without waiting.
            ///
            /// # Examples
            ///
            /// ```no_run
            /// use std::io::IoSliceMut;
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// stream.readable().await?;
            /// let mut buf = [0; 1024];
            /// let n = stream.try_read_vectored(&mut [IoSliceMut::new(&mut buf)])?;
            /// # let _ = n;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// As for [`try_read`](Self::try_read).
            pub fn try_read_vectored(
                &self,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                let len = bufs.iter().map(|buf| buf.len()).sum();
                self.io
                    .try_transfer(heist_io::Direction::Read, len, |mut io| {
                        std::io::Read::read_vectored(&mut io, bufs)
                    })
            }

            /// Writes what there is room for, without waiting.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// let n = stream.try_write(b"hello")?;
            /// # let _ = n;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// `WouldBlock` where it would have to wait; else as for [`write`](Self::write).
            pub fn try_write(&self, buf: &[u8]) -> std::io::Result<usize> {
                self.io
                    .try_transfer(heist_io::Direction::Write, buf.len(), |mut io| {
                        std::io::Write::write(&mut io, buf)
                    })
            }

            /// Writes what there is room for from several buffers, without waiting.
            ///
            /// # Examples
            ///
            /// ```no_run
            /// use std::io::IoSlice;
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// let n = stream.try_write_vectored(&[IoSlice::new(b"head"), IoSlice::new(b"body")])?;
            /// # let _ = n;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// As for [`try_write`](Self::try_write).
            pub fn try_write_vectored(
                &self,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                let len = bufs.iter().map(|buf| buf.len()).sum();
                self.io
                    .try_transfer(heist_io::Direction::Write, len, |mut io| {
                        std::io::Write::write_vectored(&mut io, bufs)
                    })
            }

            /// Closes the stream for reading, for writing, or for both.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// stream.write_all(b"that was all").await?;
            /// stream.shutdown(std::net::Shutdown::Write)?;
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// What the system answers, such as `NotConnected`.
            pub fn shutdown(&self, how: std::net::Shutdown) -> std::io::Result<()> {
                self.io.get_ref().shutdown(how)
            }

            /// Takes the pending error of the socket, if there is one.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// if let Some(e) = stream.take_error()? {
            ///     eprintln!("the connection failed: {e}");
            /// }
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// What the system answers.
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                self.io.get_ref().take_error()
            }

            /// Lends the stream twice: one reference to read from, one to write to.
            ///
            /// References read and write on their own account, so this only gives the two roles
            /// their names. For halves that can be sent to different tasks, see
            /// [`into_split`](Self::into_split).
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// let (reader, writer) = stream.split();
            /// let mut buf = [0; 1024];
            /// let n = reader.read(&mut buf).await?;
            /// writer.write_all(&buf[..n]).await?;
            /// # Ok(())
            /// # }
            /// ```
            #[must_use]
            pub fn split(&self) -> (&$type, &$type) {
                (self, self)
            }

            /// Splits the stream into two halves that own it together.
            ///
            /// Dropping the write half closes the stream for writing.
            ///
            /// # Examples
            ///
            /// ```no_run
            #[doc = concat!("# async fn f(stream: ", $path, ") -> std::io::Result<()> {")]
            /// let (reader, writer) = stream.into_split();
            /// heist::spawn(async move { writer.write_all(b"ping").await });
            /// let mut buf = [0; 4];
            /// reader.read(&mut buf).await?;
            /// # Ok(())
            /// # }
            /// ```
            #[must_use]
            pub fn into_split(
                self,
            ) -> (
                $crate::net::OwnedReadHalf<$type>,
                $crate::net::OwnedWriteHalf<$type>,
            ) {
                $crate::net::split::split(self)
            }
        }

        impl $crate::net::StreamSocket for $type {
            fn poll_read_uninit(
                &self,
                cx: &mut std::task::Context<'_>,
                buf: &mut [std::mem::MaybeUninit<u8>],
                _: $crate::net::addr::sealed::Seal,
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io
                    .poll_transfer(heist_io::Direction::Read, cx, buf.len(), |io| {
                        socket2::SockRef::from(io).recv(buf)
                    })
            }

            fn shutdown(
                &self,
                how: std::net::Shutdown,
                _: $crate::net::addr::sealed::Seal,
            ) -> std::io::Result<()> {
                $type::shutdown(self, how)
            }
        }

        impl futures_io::AsyncRead for &$type {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io
                    .poll_transfer(heist_io::Direction::Read, cx, buf.len(), |mut io| {
                        std::io::Read::read(&mut io, buf)
                    })
            }

            fn poll_read_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let len = bufs.iter().map(|buf| buf.len()).sum();
                self.io
                    .poll_transfer(heist_io::Direction::Read, cx, len, |mut io| {
                        std::io::Read::read_vectored(&mut io, bufs)
                    })
            }
        }

        impl futures_io::AsyncWrite for &$type {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                self.io
                    .poll_transfer(heist_io::Direction::Write, cx, buf.len(), |mut io| {
                        std::io::Write::write(&mut io, buf)
                    })
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                let len = bufs.iter().map(|buf| buf.len()).sum();
                self.io
                    .poll_transfer(heist_io::Direction::Write, cx, len, |mut io| {
                        std::io::Write::write_vectored(&mut io, bufs)
                    })
            }

            /// Nothing is held back here, so there is nothing to flush.
            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready(Ok(()))
            }

            /// Closes the stream for writing. One that the peer has closed already is fine.
            fn poll_close(
                self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::task::Poll::Ready($crate::net::split::close_for_writing(*self))
            }
        }

        impl futures_io::AsyncRead for $type {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &mut [u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                futures_io::AsyncRead::poll_read(std::pin::Pin::new(&mut &*self), cx, buf)
            }

            fn poll_read_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                futures_io::AsyncRead::poll_read_vectored(std::pin::Pin::new(&mut &*self), cx, bufs)
            }
        }

        impl futures_io::AsyncWrite for $type {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buf: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                futures_io::AsyncWrite::poll_write(std::pin::Pin::new(&mut &*self), cx, buf)
            }

            fn poll_write_vectored(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                futures_io::AsyncWrite::poll_write_vectored(
                    std::pin::Pin::new(&mut &*self),
                    cx,
                    bufs,
                )
            }

            fn poll_flush(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                futures_io::AsyncWrite::poll_flush(std::pin::Pin::new(&mut &*self), cx)
            }

            fn poll_close(
                self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                futures_io::AsyncWrite::poll_close(std::pin::Pin::new(&mut &*self), cx)
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($type))
                    .field(self.io.get_ref())
                    .finish()
            }
        }

        $crate::io::sys::impl_handles!($type, $std);
    };
}
pub(crate) use stream_methods;

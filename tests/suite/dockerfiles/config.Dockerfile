FROM busybox
MAINTAINER Some One <x@y>
EXPOSE 80 443/tcp 53/udp
EXPOSE 8000-8003
ENV P=9
EXPOSE $P
VOLUME /v1 /v2
VOLUME ["/v 3", "/v4"]
STOPSIGNAL SIGKILL
STOPSIGNAL 9
USER nobody
SHELL ["/bin/busybox", "ash", "-c"]
RUN echo shelled
CMD echo shell form
ENTRYPOINT ["/bin/e", "q\"uote"]
HEALTHCHECK --interval=5s --timeout=1m30s --start-period=500ms --start-interval=1h --retries=3 CMD curl -f http://x

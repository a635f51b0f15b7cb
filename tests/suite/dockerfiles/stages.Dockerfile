FROM busybox AS Build
RUN echo build
FROM busybox AS unused
RUN echo unused
FROM scratch AS files
COPY --from=build /x /y
COPY a /
FROM build AS final
COPY --from=files /y /z
COPY --from=0 /p /q
COPY --from=busybox /etc/passwd /pw
COPY --from=rich:latest /etc/group /etc/arch /many/
RUN echo final

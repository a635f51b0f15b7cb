FROM base AS one
COPY --from=ctx a /a
COPY --from=ctx sub/b /b
RUN --mount=from=img,target=/m true
FROM one AS replaced
RUN echo not run
FROM replaced
COPY --from=dl /context /d
RUN echo end

FROM rich
ENTRYPOINT ["x"]
HEALTHCHECK --interval=1500ms CMD ["a", "b"]

"""Makes the base images of the cases as OCI layouts: make_images.py FOLDER BUSYBOX (a static binary). Push them as library/NAME:latest."""
import json,hashlib,os,tarfile,io,gzip,sys
def build(name, platforms, cfgextra, layers=True, onbuild=None):
    d=sys.argv[1]+'/'+name; os.makedirs(d+'/blobs/sha256',exist_ok=True)
    def put(b):
        h=hashlib.sha256(b).hexdigest(); open(d+'/blobs/sha256/'+h,'wb').write(b); return 'sha256:'+h,len(b)
    man=[]
    for arch,variant in platforms:
        bb=open(sys.argv[2],'rb').read()
        buf=io.BytesIO(); t=tarfile.open(fileobj=buf,mode='w')
        def add(n,typ=None,data=b'',mode=0o755,link=''):
            ti=tarfile.TarInfo(n); ti.mode=mode; ti.size=len(data)
            if typ: ti.type=typ; ti.linkname=link
            t.addfile(ti,io.BytesIO(data))
        for x in ['bin','etc','tmp','root','data']: add(x,tarfile.DIRTYPE)
        add('bin/busybox',data=bb)
        for x in ['sh','echo','true','cat','ls','mkdir']: add('bin/'+x,tarfile.SYMTYPE,link='busybox')
        add('etc/passwd',data=b'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n',mode=0o644)
        add('etc/group',data=b'root:x:0:\napp:x:1000:\n',mode=0o644)
        add('etc/arch',data=arch.encode(),mode=0o644)
        t.close(); raw=buf.getvalue(); diff='sha256:'+hashlib.sha256(raw).hexdigest()
        gz=gzip.compress(raw,mtime=0)
        ld,ll=put(gz)
        cfg={"created":"2024-01-02T03:04:05Z","architecture":arch,"os":"linux","config":cfgextra,"rootfs":{"type":"layers","diff_ids":[diff] if layers else []},
             "history":[{"created":"2024-01-02T03:04:05Z","created_by":"ADD rootfs / # test","comment":"fixture"}] if layers else []}
        if variant: cfg["variant"]=variant
        cd,cl=put(json.dumps(cfg).encode())
        m={"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":cd,"size":cl},
           "layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":ld,"size":ll}] if layers else []}
        md,ml=put(json.dumps(m).encode())
        p={"architecture":arch,"os":"linux"}
        if variant: p["variant"]=variant
        man.append({"mediaType":m["mediaType"],"digest":md,"size":ml,"platform":p})
    idx={"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":man}
    xd,xl=put(json.dumps(idx).encode())
    open(d+'/oci-layout','w').write('{"imageLayoutVersion":"1.0.0"}')
    open(d+'/index.json','w').write(json.dumps({"schemaVersion":2,"manifests":[{"mediaType":idx["mediaType"],"digest":xd,"size":xl,"annotations":{"org.opencontainers.image.ref.name":"latest"}}]}))
P="PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
both=[("amd64",""),("arm64","v8")]
build("busybox",both,{"Env":[P],"Cmd":["sh"]})
build("rich",both,{"Env":["FOO=base",P,"LANG=C"],"Cmd":["sh","-c","x"],"Entrypoint":["/bin/busybox"],"User":"app","WorkingDir":"/data","Labels":{"b":"1","a":"<&>"},
  "ExposedPorts":{"80/tcp":{}},"Volumes":{"/v":{}},"StopSignal":"SIGTERM","Shell":["/bin/busybox","sh","-c"],"Healthcheck":{"Test":["CMD","true"],"Interval":1000000000}})
build("onbuild",both,{"Env":[P],"OnBuild":["ENV ONB=1","COPY a /onb/","RUN echo onbuild $ONB","COPY --from=busybox /etc/arch /fromonb"]})
build("nopath",[("amd64","")],{"Env":["X=1"]})
build("empty",[("amd64","")],{"Env":[P],"Labels":{"e":"1"}},layers=False)

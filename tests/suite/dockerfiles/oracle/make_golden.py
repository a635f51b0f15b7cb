"""Writes golden/CASE.json for every case of cases.txt. See ../README.md."""
import subprocess,json,sys,re
import os; D=os.path.dirname(os.path.dirname(os.path.abspath(__file__)))+'/'; A=sys.argv[1]; O=sys.argv[2]
only=sys.argv[3:]
for line in open(D+'cases.txt'):
    if line.startswith('#') or not line.strip(): continue
    w=line.split()
    if only and w[0] not in only: continue
    r=subprocess.run([O,A,D,w[1]+'.Dockerfile']+w[2:],capture_output=True,text=True)
    if r.returncode: print(w[0],r.stderr[:300]); continue
    a=json.loads(r.stdout)
    if a.get('error'): print(w[0],'ERR',a['error'][:200])
    out={'session':a.get('metadata',{}).pop('session',''),'error':a.get('error',''),'metadata':a.get('metadata',{}),'defs':{}}
    for k,d in (a.get('defs') or {}).items():
        if d is None: out['defs'][k]=None; continue
        loc={}
        for dg,l in ((d.get('source') or {}).get('locations') or {}).items():
            loc[dg]=[[ (x.get('start',{}).get('line',0), x.get('end',{}).get('line',0)) for x in (q.get('ranges') or [])] for q in (l.get('locations') or [])]
        out['defs'][k]={'head':d['head'],'ops':d['ops'],'metadata':d['metadata'],'locations':loc}
    def dump(o,ind=0,depth=4):
        if isinstance(o,dict) and o and depth>0:
            return '{\n'+',\n'.join(' '*(ind+1)+json.dumps(k)+': '+dump(v,ind+1,depth-1) for k,v in sorted(o.items()))+'\n'+' '*ind+'}'
        return json.dumps(o,ensure_ascii=False,sort_keys=True)
    open(D+'golden/'+w[0]+'.json','w').write(dump(out)+'\n')

import sys, torch
from pathlib import Path
import numpy as np
from PIL import Image
from . import measure as M, storage, judge, world, drawings
from .runs import Runs, across
@torch.inference_mode()
def main(out):
    dev=M.DEVICE
    J=storage.load_judge().to(dev)
    d=drawings.load()
    for s in world.SETS:
        x,n,_=drawings.Drawings(d,[s],range(48),64,dev).draw(960)
        a,b=judge.read(J,x); print(s,'name',(a==n).float().mean().item(),'style',[round((b==k).float().mean().item(),3) for k in range(3)])
    C=storage.coder('autoencoder').to(dev); x,n,_=drawings.Drawings(d,world.TARGET_SETS,range(48),128,dev).draw(96)
    y=C.decode(C.encode(x)).clamp(-1,1); print('ae mae',(x-y).abs().mean().item(), 'latent std', C.encode(x).std((0,2,3)))
    sheet(torch.cat([x[:24],y[:24]]),Path(out)/'ae.png',24)
    runs=Runs(); names=M.names_of_a_run()
    L=torch.tensor([world.NAMES.index(n) for n in names],device=dev)
    show=[0,5,10,15,20,23]+[96+k for k in (0,3,6,9)]+[192+k for k in (0,3,6,9)]
    rows=[]
    import time
    for name in ('source','target','flow_target','source_ink','source_outline','target_ink','target_outline'):
        t=time.time(); x=runs.sample(name,names,1).to(dev); dt=time.time()-t
        a,b=judge.read(J,x)
        print(name,f'{dt:.1f}s',*[f"{g} name {(a==L)[k*96:k*96+96].float().mean():.3f}" for k,g in enumerate(world.GROUPS)],'style',[round((b==k).float().mean().item(),3) for k in range(3)],flush=True)
        rows.append(torch.nn.functional.adaptive_avg_pool2d(x[show],64))
    for s in ('ink','outline'):
        for t in ('target','flow_target'):
            t0=time.time(); x=runs.sample(t,names,1,[across(t)(runs.pair(names,f'source_{s}'))]).to(dev); dt=time.time()-t0
            a,b=judge.read(J,x); k0=judge.STYLES.index(s)
            print('delta',t,s,f'{dt:.1f}s',*[f"{g} name {(a==L)[k*96:k*96+96].float().mean():.3f} style {(b==k0)[k*96:k*96+96].float().mean():.3f}" for k,g in enumerate(world.GROUPS)],flush=True)
            rows.append(torch.nn.functional.adaptive_avg_pool2d(x[show],64))
    sheet(torch.cat(rows),Path(out)/'samples.png',len(show))
def sheet(x,path,cols):
    n,c,h,w=x.shape; g=x.view(n//cols,cols,c,h,w).permute(0,3,1,4,2).reshape(n//cols*h,cols*w,c)
    Image.fromarray(((g.float()+1)*127.5).clamp(0,255).byte().cpu().numpy()).save(path)
if __name__=='__main__': main(sys.argv[1])

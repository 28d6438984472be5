import subprocess, sys
def test_perf(database):
    print(subprocess.run([sys.executable,"/tmp/w/ob_perf.py",database],capture_output=True,text=True,timeout=100,cwd="/work/main",env={"PYTHONPATH":"/work/main","PATH":"/usr/bin:/bin"}))

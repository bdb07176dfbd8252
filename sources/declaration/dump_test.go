package declaration
import ("testing";"path/filepath";"fmt")
func TestDump(t *testing.T){
 for _,p:=range fixtures(t,"testdata/bad/*.bad.yaml"){ n:=filepath.Base(p)
  _,err:=Parse(estate(t,n,readFile(t,p)),"purser",known); fmt.Printf("B\t%s\t%v\n",n,err)}
 for _,p:=range fixtures(t,"testdata/release/*.bad.yaml"){ n:=filepath.Base(p)
  _,err:=decodeRelease("apps/web/release.yaml",[]byte(readFile(t,p))); fmt.Printf("R\t%s\t%v\n",n,err)}
 for _,p:=range fixtures(t,"testdata/agent/*.bad.yaml"){ n:=filepath.Base(p)
  _,err:=decodeAgent("purser.yaml","/etc/purser",[]byte(readFile(t,p))); fmt.Printf("A\t%s\t%v\n",n,err)}
}

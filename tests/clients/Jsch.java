import com.jcraft.jsch.ChannelSftp;
import com.jcraft.jsch.JSch;
import com.jcraft.jsch.Session;
import java.util.Vector;

/** JSch: put, ls, get, resume, rename, remove; what fails is an exception and exit code 1. */
public class Jsch {
    public static void main(String[] words) {
        try {
            transfer(words);
        } catch (Exception error) {
            error.printStackTrace();
            System.exit(1); // its threads would wait for the gateway
        }
    }

    private static void transfer(String[] words) throws Exception {
        JSch jsch = new JSch();
        jsch.addIdentity(words[2]);
        Session session = jsch.getSession(words[1], "127.0.0.1", Integer.parseInt(words[0]));
        session.setConfig("StrictHostKeyChecking", "no");
        session.connect(10000);
        ChannelSftp sftp = (ChannelSftp) session.openChannel("sftp");
        sftp.connect(10000);
        String folder = words[3], root = words[4];
        sftp.mkdir(root);
        sftp.put(folder + "/whole", root + "/whole");
        sftp.put(folder + "/empty", root + "/with space");
        Vector<?> names = sftp.ls(root);
        sftp.get(root + "/whole", folder + "/back");
        sftp.rename(root + "/whole", root + "/renamed");
        if (words.length > 5) {
            sftp.put(folder + "/half", root + "/half");
            sftp.put(folder + "/whole", root + "/half", ChannelSftp.RESUME);
            sftp.get(root + "/half", folder + "/resumed");
            sftp.rm(root + "/half");
        }
        sftp.rm(root + "/renamed");
        sftp.rm(root + "/with space");
        sftp.rmdir(root);
        session.disconnect();
        System.out.println(names.size());
    }
}
